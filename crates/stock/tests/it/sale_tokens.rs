//! Sales that ask for a sale token: one token, one order, remembered in the step that grants it.

use seckill_domain::{Epoch, Offset, Refusal};
use seckill_stock::{Attempt, ReserveOutcome, ReserveReply, ReserveRequest};
use uuid::Uuid;

use crate::harness::{
    FAR_FUTURE, Server, confirm, granted, key, load, order, release, request, reserve_one, sale,
    settle_one, units, voucher,
};

const TOKENS: &str = "seckill:{7}:tokens";

async fn asking_for_tokens() -> Server {
    let server = Server::start();
    let mut sale = sale(10);
    sale.terms.requires_sale_token = true;
    load(&server.stock, &sale, Offset::new(1)).await;
    server
}

/// Of user 11.
fn with(number: u64, key_number: u8, token: Option<u128>) -> ReserveRequest {
    ReserveRequest {
        key_hash: Some(key(key_number)),
        sale_token: token.map(Uuid::from_u128),
        ..request(number, 11)
    }
}

#[tokio::test]
async fn an_order_without_a_token_takes_nothing() {
    let server = asking_for_tokens().await;
    let refused = reserve_one(&server.stock, &with(1, 1, None)).await;
    assert_eq!(refused, ReserveOutcome::Refused(Refusal::TokenRequired));
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}

#[tokio::test]
async fn a_token_is_for_one_order_however_often_that_is_repeated() {
    let server = asking_for_tokens().await;
    let first = granted(&server.stock, &with(1, 1, Some(91))).await;
    for repeated in [with(2, 1, Some(91)), with(3, 1, Some(92)), with(4, 1, None)] {
        let answer = reserve_one(&server.stock, &repeated).await;
        let same =
            matches!(answer, ReserveOutcome::Repeated { order_id, .. } if order_id == order(1));
        assert!(same, "{answer:?}");
    }
    let order_id = order(1);
    let second = reserve_one(&server.stock, &with(5, 2, Some(91))).await;
    assert_eq!(
        second,
        ReserveOutcome::Refused(Refusal::AlreadyOrdered { order_id })
    );

    settle_one(&server, 1, confirm(&first)).await;
    settle_one(&server, 2, release(&first)).await;
    let used = reserve_one(&server.stock, &with(6, 2, Some(91))).await;
    assert_eq!(used, ReserveOutcome::Refused(Refusal::TokenUsed));
    assert_eq!(units(&server.stock).await, (10, 0, 0));

    let next = granted(&server.stock, &with(7, 2, Some(92))).await;
    settle_one(&server, 3, confirm(&next)).await;
    settle_one(&server, 4, release(&next)).await;
    // The key of the order before the last one answers with it, whatever token comes along.
    let answer = reserve_one(&server.stock, &with(8, 1, Some(91))).await;
    let same = matches!(answer, ReserveOutcome::Repeated { order_id, .. } if order_id == order(1));
    assert!(same, "{answer:?}");
}

#[tokio::test]
async fn where_redis_lost_the_hold_the_same_order_may_be_placed_again() {
    let server = asking_for_tokens().await;
    granted(&server.stock, &with(1, 1, Some(91))).await;
    let mut again = sale(10);
    again.terms.requires_sale_token = true;
    again.epoch = Epoch::new(2);
    load(&server.stock, &again, Offset::new(1)).await;

    let used = reserve_one(&server.stock, &with(2, 2, Some(91))).await;
    assert_eq!(used, ReserveOutcome::Refused(Refusal::TokenUsed));
    let same_id = with(1, 2, Some(91));
    let repeated = server
        .stock
        .reserve(voucher(), &[same_id], &[], Attempt::Again)
        .await;
    let decided = repeated.unwrap();
    assert!(
        matches!(&decided, ReserveReply::Decided { outcomes: all, .. } if matches!(all[0], ReserveOutcome::Granted(_))),
        "{decided:?}"
    );

    again.epoch = Epoch::new(3);
    load(&server.stock, &again, Offset::new(1)).await;
    granted(&server.stock, &with(3, 2, Some(91))).await;
}

#[tokio::test]
async fn tokens_are_forgotten_when_the_sale_closes_and_not_noted_where_none_is_asked_for() {
    let server = asking_for_tokens().await;
    granted(&server.stock, &with(1, 1, Some(91))).await;
    let mut raw = server.raw().await;
    let expires: i64 = redis::cmd("PEXPIRETIME")
        .arg(TOKENS)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(expires, FAR_FUTURE.as_micros() / 1000);

    let other = Server::with_sale().await;
    granted(&other.stock, &with(1, 1, Some(91))).await;
    let mut raw = other.raw().await;
    let noted: bool = redis::cmd("EXISTS")
        .arg(TOKENS)
        .query_async(&mut raw)
        .await
        .unwrap();
    assert!(!noted);
}
