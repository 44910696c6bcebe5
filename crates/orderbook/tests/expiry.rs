//! Who expires what: by the database's clock, and each order by one instance at a time.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{PRICE_CENTS, Stand, log_from, order_id, paid, reserved, scheduled, user, voucher};
use seckill_domain::{EventBody, OrderId, SeckillReserved, Timestamp};
use seckill_orderbook::{DueOrder, Orderbook};

const MINUTE: Duration = Duration::from_secs(60);

fn due_at(body: EventBody, pay_by: Timestamp) -> EventBody {
    let EventBody::SeckillReserved(e) = body else {
        panic!("only reservations are to be paid");
    };
    EventBody::SeckillReserved(SeckillReserved { pay_by, ..e })
}

/// Puts up a sale with one order a buyer; order n is to be paid `ago(n)` seconds before now.
async fn with_orders(stand: &Stand, orders: u64, ago: impl Fn(u64) -> i64) {
    let (v, now) = (voucher(1), stand.book.now().await.unwrap());
    let mut log = vec![(v, scheduled(10_000))];
    log.extend((1..=orders).map(|n| {
        let pay_by = Timestamp::from_micros(now.as_micros() - ago(n) * 1_000_000);
        let body = reserved(order_id(v, n), user(n.cast_signed()), 1);
        (v, due_at(body, pay_by))
    }));
    stand.apply(0, &log_from(0, log)).await.unwrap();
}

fn ids(due: &[DueOrder]) -> Vec<OrderId> {
    due.iter().map(|d| d.order_id).collect()
}

#[tokio::test]
async fn only_unpaid_orders_past_the_grace_are_due_the_oldest_first() {
    let stand = Stand::new().await;
    let v = voucher(1);
    // 1 was paid in time, 2 is within the grace, 3 has time left.
    let ago = [0, 500, 30, -500, 200, 300];
    with_orders(&stand, 5, |n| ago[usize::try_from(n).unwrap()]).await;
    let payment = log_from(6, [(v, paid(order_id(v, 1), "p1", PRICE_CENTS))]);
    stand.apply(6, &payment).await.unwrap();

    let due = stand.book.claim_due(2 * MINUTE, 100, MINUTE).await.unwrap();
    assert_eq!(ids(&due), [order_id(v, 5), order_id(v, 4)]);
    let order = stand.book.order(order_id(v, 5)).await.unwrap().unwrap();
    assert_eq!(due[0].pay_by, order.pay_by);
}

async fn claim_all(book: &Orderbook) -> Vec<OrderId> {
    let mut claimed = Vec::new();
    let mut empty = 0;
    // A call that met only claims of others gives nothing, and more may be due behind them.
    while empty < 3 {
        let due = book.claim_due(Duration::ZERO, 7, MINUTE).await.unwrap();
        empty = if due.is_empty() { empty + 1 } else { 0 };
        claimed.extend(ids(&due));
    }
    claimed
}

#[tokio::test]
async fn instances_at_once_share_the_work_and_none_does_it_twice() {
    let stand = Stand::new().await;
    // Many are due at the same instant, so that their order is the ids' alone.
    with_orders(&stand, 400, |n| 10 + (n % 3).cast_signed()).await;
    let book = &stand.book;
    let (a, b, c, d) = tokio::join!(
        claim_all(book),
        claim_all(book),
        claim_all(book),
        claim_all(book)
    );
    let all: Vec<OrderId> = [a, b, c, d].concat();
    let distinct: HashSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len(), "claimed twice");
    assert_eq!(distinct.len(), 400, "left over");
}

#[tokio::test]
async fn a_claim_runs_out_and_can_be_taken_again() {
    let stand = Stand::new().await;
    with_orders(&stand, 3, |_| 10).await;
    let claim = async |claim_for| {
        let due = stand.book.claim_due(Duration::ZERO, 10, claim_for).await;
        ids(&due.unwrap()).len()
    };
    // The instance that claimed these died; its claims last no time at all.
    assert_eq!(claim(Duration::ZERO).await, 3);
    assert_eq!(claim(MINUTE).await, 3);
    assert_eq!(claim(MINUTE).await, 0);
    assert_eq!(stand.book.forget_claims().await.unwrap(), 0);

    stand
        .execute("UPDATE expiry_claims SET until = now() - interval '1 second'")
        .await
        .unwrap();
    assert_eq!(stand.book.forget_claims().await.unwrap(), 3);
    assert_eq!(claim(MINUTE).await, 3);
}
