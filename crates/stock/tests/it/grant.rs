//! Taking units: every answer a buyer can get, and what is pending afterwards.

use seckill_domain::{Epoch, EventBody, Offset, Refusal, StockOp, Timestamp};
use seckill_stock::{
    Ack, Attempt, HoldState, MAX_REQUESTS, PendingEvent, ReserveOutcome, ReserveReply,
    ReserveRequest, SettleReply, ShrinkReply, StockError,
};

use crate::harness::{
    FAR_FUTURE, HOLD_SECONDS, Server, confirm, event, granted, hold, key, load, nonce, order,
    outbox, outcomes, price, release, request, reserve, reserve_one, sale, settle_one, units, user,
    view, voucher,
};

#[tokio::test]
async fn a_grant_takes_the_stock_and_leaves_its_event_pending() {
    let server = Server::with_sale().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let asked = ReserveRequest {
        quantity: 2,
        key_hash: Some(key(1)),
        traceparent: Some(traceparent.parse().unwrap()),
        ..request(1, 11)
    };
    let before = server.stock.now().await.unwrap();
    let reservation = granted(&server.stock, &asked).await;
    let after = server.stock.now().await.unwrap();

    assert!((before..=after).contains(&reservation.reserved_at));
    let hold_us = i64::from(HOLD_SECONDS) * 1_000_000;
    let pay_by_us = reservation.reserved_at.as_micros() + hold_us;
    assert_eq!(reservation.pay_by, Timestamp::from_micros(pay_by_us));
    assert_eq!(reservation.price, price());
    assert_eq!(reservation.epoch, Epoch::FIRST);
    assert_eq!(units(&server.stock).await, (8, 2, 2));
    let pending = PendingEvent::Reservation(reservation.clone());
    assert_eq!(outbox(&server.stock).await, [pending]);

    let hold = hold(&server.stock, 11).await.unwrap();
    assert_eq!(hold.order_id, reservation.order_id);
    assert_eq!(hold.state, HoldState::Held);
    assert_eq!(hold.key_hash, Some(key(1)));
    assert_eq!((hold.quantity, hold.pay_by), (2, reservation.pay_by));
    assert_eq!(hold.reserved_at, reservation.reserved_at);

    let event = reservation.to_event(voucher());
    assert_eq!(event.event_id, asked.event_id);
    let EventBody::SeckillReserved(body) = event.body else {
        panic!("not a reservation");
    };
    assert_eq!(body.order_id, asked.order_id);
    assert_eq!(body.quantity, 2);
}

#[tokio::test]
async fn a_batch_is_decided_in_order_and_sees_itself() {
    let server = Server::start();
    load(&server.stock, &sale(3), Offset::new(1)).await;
    let two = |number, user| ReserveRequest {
        quantity: 2,
        ..request(number, user)
    };
    let outcomes = reserve(
        &server.stock,
        &[
            two(1, 1),
            request(2, 1),
            two(3, 2),
            request(4, 3),
            request(1, 1),
        ],
    )
    .await;
    assert!(matches!(outcomes[0], ReserveOutcome::Granted(_)));
    let order_id = order(1);
    assert_eq!(
        outcomes[1],
        ReserveOutcome::Refused(Refusal::AlreadyOrdered { order_id })
    );
    assert_eq!(outcomes[2], ReserveOutcome::Refused(Refusal::SoldOut));
    assert!(matches!(outcomes[3], ReserveOutcome::Granted(_)));
    assert_eq!(outcomes[4], outcomes[0], "the same order id, in one batch");
    assert_eq!(units(&server.stock).await, (0, 3, 3));
}

#[tokio::test]
async fn a_retried_call_is_granted_once_with_the_first_answer() {
    let server = Server::with_sale().await;
    let first = granted(&server.stock, &request(1, 11)).await;
    assert_eq!(granted(&server.stock, &request(1, 11)).await, first);
    assert_eq!(units(&server.stock).await, (9, 1, 1));

    // Published and cleared: the retry has nothing to publish any more.
    assert!(server.stock.clear(voucher(), &[first.ack()]).await.unwrap());
    let repeated = |settled, released| ReserveOutcome::Repeated {
        order_id: order(1),
        settled,
        released,
        pay_by: first.pay_by,
    };
    assert_eq!(
        reserve_one(&server.stock, &request(1, 11)).await,
        repeated(false, false)
    );
    settle_one(&server, 1, confirm(&first)).await;
    assert_eq!(
        reserve_one(&server.stock, &request(1, 11)).await,
        repeated(true, false)
    );
    settle_one(&server, 2, release(&first)).await;
    assert_eq!(
        reserve_one(&server.stock, &request(1, 11)).await,
        repeated(false, true)
    );
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}

#[tokio::test]
async fn a_key_answers_with_its_order_also_after_the_release() {
    let server = Server::with_sale().await;
    let with_key = |number, key_number| ReserveRequest {
        key_hash: Some(key(key_number)),
        ..request(number, 11)
    };
    let first = granted(&server.stock, &with_key(1, 1)).await;
    let repeated = |settled, released| ReserveOutcome::Repeated {
        order_id: order(1),
        settled,
        released,
        pay_by: first.pay_by,
    };
    assert_eq!(
        reserve_one(&server.stock, &with_key(2, 1)).await,
        repeated(false, false)
    );
    let other_quantity = ReserveRequest {
        quantity: 2,
        ..with_key(3, 1)
    };
    let reused = reserve_one(&server.stock, &other_quantity).await;
    assert_eq!(reused, ReserveOutcome::Refused(Refusal::KeyReused));

    settle_one(&server, 1, confirm(&first)).await;
    settle_one(&server, 2, release(&first)).await;
    assert_eq!(
        reserve_one(&server.stock, &with_key(4, 1)).await,
        repeated(false, true)
    );
    let next = granted(&server.stock, &with_key(5, 2)).await;
    assert_eq!(next.order_id, order(5), "another key buys again");
}

/// The first key goes on answering with its order: while the second order lives, after it has ended, and
/// after a third. A key is never good for two orders.
#[tokio::test]
async fn every_key_answers_with_its_order_whatever_was_ordered_since() {
    let server = Server::with_sale().await;
    let with_key = |number, key_number| ReserveRequest {
        key_hash: Some(key(key_number)),
        ..request(number, 11)
    };
    let answers_with_its_order = async |key_number: u8, of: u64| {
        let answer = reserve_one(&server.stock, &with_key(90, key_number)).await;
        assert!(
            matches!(&answer, ReserveOutcome::Repeated { order_id, released: true, .. } if *order_id == order(of)),
            "key {key_number}: {answer:?}"
        );
        let other_quantity = ReserveRequest {
            quantity: 2,
            ..with_key(91, key_number)
        };
        let reused = reserve_one(&server.stock, &other_quantity).await;
        assert_eq!(reused, ReserveOutcome::Refused(Refusal::KeyReused));
        let again = [with_key(92, key_number)];
        let again = server
            .stock
            .reserve(voucher(), &again, &[], Attempt::Again)
            .await;
        assert_eq!(outcomes(again), vec![answer], "sent again");
    };
    for number in 1..=3_u8 {
        let order = granted(&server.stock, &with_key(u64::from(number), number)).await;
        for earlier in 1..number {
            answers_with_its_order(earlier, u64::from(earlier)).await;
        }
        let at = i64::from(number) * 2;
        settle_one(&server, at - 1, confirm(&order)).await;
        settle_one(&server, at, release(&order)).await;
        for earlier in 1..=number {
            answers_with_its_order(earlier, u64::from(earlier)).await;
        }
    }
    assert_eq!(units(&server.stock).await, (10, 0, 0));
    let other_user = ReserveRequest {
        key_hash: Some(key(1)),
        ..request(9, 12)
    };
    granted(&server.stock, &other_user).await;
}

/// An order that the log knows takes the place of one that only this server knew: that one's key stays.
#[tokio::test]
async fn a_key_answers_with_its_order_also_after_the_log_has_put_another_in_its_place() {
    let server = Server::with_sale().await;
    let first = ReserveRequest {
        key_hash: Some(key(1)),
        ..request(1, 11)
    };
    let pay_by = granted(&server.stock, &first).await.pay_by;
    let other = StockOp::Confirm {
        order_id: order(8),
        user_id: user(11),
        quantity: 1,
        key_hash: Some(key(2)),
        pay_by,
    };
    settle_one(&server, 1, other).await;
    let repeated = ReserveOutcome::Repeated {
        order_id: order(1),
        settled: false,
        released: true,
        pay_by,
    };
    let again = ReserveRequest {
        order_id: order(2),
        ..first
    };
    assert_eq!(reserve_one(&server.stock, &again).await, repeated);
}

#[tokio::test]
async fn every_refusal_has_its_name_and_takes_nothing() {
    let server = Server::start();
    let quantity = |quantity| ReserveRequest {
        quantity,
        ..request(1, 11)
    };
    let reply = server
        .stock
        .reserve(voucher(), &[quantity(1)], &[], Attempt::First)
        .await;
    assert_eq!(reply.unwrap(), ReserveReply::NotServed);

    let mut terms = sale(2);
    terms.terms.opens_at = FAR_FUTURE;
    reload(&server, &mut terms).await;
    let not_started = ReserveOutcome::Refused(Refusal::NotStarted {
        opens_at: FAR_FUTURE,
    });
    assert_eq!(reserve_one(&server.stock, &quantity(1)).await, not_started);

    terms.terms.opens_at = Timestamp::from_micros(0);
    terms.terms.closes_at = Timestamp::from_micros(1);
    reload(&server, &mut terms).await;
    let ended = reserve_one(&server.stock, &quantity(1)).await;
    assert_eq!(ended, ReserveOutcome::Refused(Refusal::Ended));

    terms.terms.closes_at = FAR_FUTURE;
    reload(&server, &mut terms).await;
    let limit = ReserveOutcome::Refused(Refusal::QuantityLimit { max_quantity: 3 });
    assert_eq!(reserve_one(&server.stock, &quantity(0)).await, limit);
    assert_eq!(reserve_one(&server.stock, &quantity(4)).await, limit);
    let sold_out = reserve_one(&server.stock, &quantity(3)).await;
    assert_eq!(sold_out, ReserveOutcome::Refused(Refusal::SoldOut));
    assert_eq!(units(&server.stock).await, (2, 0, 0));

    terms.closed = Some((Timestamp::from_micros(1), Offset::new(0)));
    reload(&server, &mut terms).await;
    assert!(view(&server.stock).await.sale_closed);
    let ended = reserve_one(&server.stock, &quantity(1)).await;
    assert_eq!(ended, ReserveOutcome::Refused(Refusal::Ended));
    assert!(outbox(&server.stock).await.is_empty());
}

#[tokio::test]
async fn a_shrink_takes_its_units_once() {
    let server = Server::with_sale().await;
    let shrink = |number, units| server.stock.shrink(voucher(), event(number), units);
    let ShrinkReply::Taken(taken) = shrink(1, 4).await.unwrap() else {
        panic!("not taken");
    };
    assert_eq!(shrink(1, 4).await.unwrap(), ShrinkReply::Taken(taken));
    assert_eq!(units(&server.stock).await, (6, 0, 4));
    assert_eq!(
        shrink(2, 7).await.unwrap(),
        ShrinkReply::Refused { free: 6 }
    );
    assert_eq!(outbox(&server.stock).await, [PendingEvent::Shrink(taken)]);
    let EventBody::StockAdjusted(body) = taken.to_event(voucher()).body else {
        panic!("not an adjustment");
    };
    assert_eq!((body.delta, body.epoch), (-4, Some(Epoch::FIRST)));

    let kept = StockOp::ShrinkKept {
        event_id: event(1),
        units: 4,
    };
    settle_one(&server, 1, kept).await;
    assert_eq!(units(&server.stock).await, (6, 0, 0));
    assert!(outbox(&server.stock).await.is_empty());
    // A retry that comes later than the decision: nothing is taken for it again.
    assert_eq!(shrink(1, 4).await.unwrap(), ShrinkReply::Taken(taken));
    assert_eq!(units(&server.stock).await, (6, 0, 0));
    assert!(outbox(&server.stock).await.is_empty());
    let reply = server.stock.shrink(other_voucher(), event(3), 1).await;
    assert_eq!(reply.unwrap(), ShrinkReply::NotServed);
}

#[tokio::test]
async fn calls_that_are_too_large_are_not_sent() {
    let server = Server::with_sale().await;
    let many: Vec<_> = (0..=MAX_REQUESTS as u64).map(|n| request(n, 1)).collect();
    let refused = server
        .stock
        .reserve(voucher(), &many, &[], Attempt::First)
        .await;
    assert!(matches!(refused, Err(StockError::Protocol(_))));
    let ack = Ack {
        id: nonce(1),
        epoch: Epoch::FIRST,
    };
    let refused = server.stock.clear(voucher(), &[ack; 501]).await;
    assert!(matches!(refused, Err(StockError::Protocol(_))));
    let acks = [ack; 500];
    let most = server
        .stock
        .reserve(voucher(), &many[1..], &acks, Attempt::First);
    assert!(matches!(most.await.unwrap(), ReserveReply::Decided { .. }));
    assert_eq!(hold(&server.stock, 1).await.unwrap().order_id, order(1));
}

/// Loads the sale again with these terms, in the next epoch.
async fn reload(server: &Server, sale: &mut seckill_domain::Sale) {
    sale.epoch = sale.epoch.next();
    load(&server.stock, sale, Offset::new(1)).await;
}

pub(crate) fn other_voucher() -> seckill_domain::VoucherId {
    seckill_domain::VoucherId::new(8).expect("in range")
}

/// Its caller slept between two attempts, while everybody else went on.
#[tokio::test]
async fn a_retry_whose_order_has_come_and_gone_takes_nothing() {
    let server = Server::with_sale().await;
    let stock = &server.stock;
    let settle = async |at: i64, op| {
        let (from, to) = (Offset::new(at), Offset::new(at + 1));
        let reply = stock
            .settle(voucher(), Epoch::FIRST, from, to, &[(from, op)])
            .await;
        assert_eq!(reply.unwrap(), SettleReply::Settled { position: to });
    };
    for (number, at) in [(1, 1), (2, 3)] {
        let reservation = granted(stock, &request(number, 11)).await;
        settle(at, confirm(&reservation)).await;
        settle(at + 1, release(&reservation)).await;
    }
    let late = stock
        .reserve(voucher(), &[request(1, 11)], &[], Attempt::Again)
        .await;
    let superseded = vec![ReserveOutcome::Superseded];
    assert_eq!(outcomes(late), superseded);
    assert_eq!(units(stock).await, (10, 0, 0));
    // Who was not served before is served by a retry, and one with a new order id too.
    let again = stock
        .reserve(voucher(), &[request(3, 12)], &[], Attempt::Again)
        .await;
    assert!(
        matches!(again.unwrap(), ReserveReply::Decided { outcomes: all, .. } if matches!(all[0], ReserveOutcome::Granted(_)))
    );
    granted(stock, &request(4, 11)).await;
    assert_eq!(units(stock).await, (8, 2, 2));
}
