//! Each rule by example: given a log, when an event comes, then this is decided.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use seckill_domain::{
    Decision, Epoch, Event, EventBody, EventId, Money, Offset, OrderCancelled, OrderExpired,
    OrderId, OrderPaid, OrderStatus, PaymentId, Reason, RefundReason, RejectReason, SaleReloaded,
    SaleScheduled, SaleState, SeckillReserved, StockAdjusted, Terms, Timestamp, Title, UserId,
    VoucherId,
};
use uuid::Uuid;

fn voucher() -> VoucherId {
    VoucherId::new(7).unwrap()
}

fn order(n: u64) -> OrderId {
    OrderId::from_parts(voucher(), 1, n)
}

fn eur(cents: i64) -> Money {
    Money::new(cents, "EUR".parse().unwrap()).unwrap()
}

fn event(id: u128, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::from_u128(id)),
        voucher_id: voucher(),
        occurred_at: Timestamp::from_micros(1_000),
        body,
    }
}

fn scheduled(stock: i64) -> EventBody {
    EventBody::SaleScheduled(SaleScheduled {
        terms: Terms {
            title: Title::new("A title").unwrap(),
            price: eur(100),
            stock,
            max_quantity: 3,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(10),
            hold_seconds: 5,
            requires_sale_token: false,
        },
    })
}

fn reserved(order_id: OrderId, user: i64, quantity: u32, epoch: i64) -> EventBody {
    EventBody::SeckillReserved(SeckillReserved {
        order_id,
        user_id: UserId::new(user).unwrap(),
        quantity,
        price: eur(100),
        pay_by: Timestamp::from_micros(5),
        epoch: Epoch::new(epoch),
        key_hash: None,
    })
}

fn paid(order_id: OrderId, payment: &str, cents: i64) -> EventBody {
    EventBody::OrderPaid(OrderPaid {
        order_id,
        payment_id: PaymentId::new(payment).unwrap(),
        amount: eur(cents),
        paid_at: Timestamp::from_micros(3),
    })
}

fn expired(order_id: OrderId) -> EventBody {
    EventBody::OrderExpired(OrderExpired {
        order_id,
        pay_by: Timestamp::from_micros(5),
    })
}

fn cancelled(order_id: OrderId, user: i64) -> EventBody {
    EventBody::OrderCancelled(OrderCancelled {
        order_id,
        user_id: UserId::new(user).unwrap(),
    })
}

fn shrink(units: i64, epoch: i64) -> EventBody {
    EventBody::StockAdjusted(StockAdjusted {
        delta: -units,
        reason: Reason::new("damaged").unwrap(),
        epoch: Some(Epoch::new(epoch)),
    })
}

fn restock(units: i64) -> EventBody {
    EventBody::StockAdjusted(StockAdjusted {
        delta: units,
        reason: Reason::new("found").unwrap(),
        epoch: None,
    })
}

fn reloaded(previous: i64, nonce: u128) -> EventBody {
    EventBody::SaleReloaded(SaleReloaded {
        previous: Epoch::new(previous),
        epoch: Epoch::new(previous).next(),
        nonce: Uuid::from_u128(nonce),
        first: None,
    })
}

/// Folds a log; the n-th body becomes the event with id n at offset n.
fn given(bodies: impl IntoIterator<Item = EventBody>) -> SaleState {
    let mut state = SaleState::default();
    for (n, body) in bodies.into_iter().enumerate() {
        state.fold(Offset::new(n.try_into().unwrap()), &event(n as u128, body));
    }
    state
}

fn then(state: &SaleState, body: EventBody) -> Option<Decision> {
    seckill_domain::decide(state, &event(999, body))
}

fn rejection(state: &SaleState, body: EventBody) -> Option<RejectReason> {
    match then(state, body) {
        Some(Decision::OrderRejected { order }) => {
            assert_eq!(order.status, OrderStatus::Rejected);
            order.rejected
        }
        other => panic!("not rejected: {other:?}"),
    }
}

fn refund(state: &SaleState, body: EventBody) -> RefundReason {
    match then(state, body) {
        Some(Decision::RefundDue { reason, .. }) => reason,
        other => panic!("no refund: {other:?}"),
    }
}

#[test]
fn a_reservation_stands_while_units_are_free() {
    let state = given([scheduled(3), reserved(order(1), 1, 2, 1)]);
    let sale = state.sale.as_ref().unwrap();
    assert_eq!((sale.available, sale.unpaid, sale.paid), (1, 2, 0));
    assert_eq!(state.orders[&order(1)].amount, eur(200));
    assert_eq!(
        rejection(&state, reserved(order(2), 2, 2, 1)),
        Some(RejectReason::OutOfStock)
    );
    assert_eq!(then(&state, reserved(order(1), 1, 2, 1)), None, "known");
}

#[test]
fn a_user_has_one_live_order_and_may_order_again_after_a_release() {
    let log = [scheduled(3), reserved(order(1), 1, 1, 1)];
    let again = reserved(order(2), 1, 1, 1);
    assert_eq!(
        rejection(&given(log.clone()), again.clone()),
        Some(RejectReason::AlreadyOrdered)
    );
    for end in [expired(order(1)), cancelled(order(1), 1)] {
        let state = given(log.clone().into_iter().chain([end]));
        assert_eq!(state.sale.as_ref().unwrap().available, 3);
        assert!(matches!(
            then(&state, again.clone()),
            Some(Decision::OrderReserved { .. })
        ));
    }
    let state = given(log.into_iter().chain([paid(order(1), "p", 100)]));
    assert_eq!(rejection(&state, again), Some(RejectReason::AlreadyOrdered));
}

#[test]
fn an_earlier_epoch_or_an_unknown_sale_is_rejected_but_a_closed_sale_is_not() {
    let reload = [scheduled(3), reloaded(1, 50)];
    assert_eq!(
        rejection(&given(reload.clone()), reserved(order(1), 1, 1, 1)),
        Some(RejectReason::StaleEpoch)
    );
    let state = given(reload);
    assert!(matches!(
        then(&state, reserved(order(1), 1, 1, 2)),
        Some(Decision::OrderReserved { .. })
    ));
    assert_eq!(
        rejection(&given([]), reserved(order(1), 1, 1, 1)),
        Some(RejectReason::UnknownSale)
    );
    let closed = given([scheduled(3), EventBody::SaleClosed]);
    assert!(matches!(
        then(&closed, reserved(order(1), 1, 1, 1)),
        Some(Decision::OrderReserved { .. })
    ));
    assert_eq!(then(&closed, EventBody::SaleClosed), None);
    assert_eq!(then(&closed, scheduled(5)), None);
}

#[test]
fn payment_and_expiry_the_first_in_the_log_wins() {
    let log = [scheduled(1), reserved(order(1), 1, 1, 1)];
    let paid_first = given(log.clone().into_iter().chain([paid(order(1), "p", 100)]));
    assert_eq!(then(&paid_first, expired(order(1))), None);
    assert_eq!(then(&paid_first, cancelled(order(1), 1)), None);
    let expired_first = given(log.clone().into_iter().chain([expired(order(1))]));
    assert_eq!(
        refund(&expired_first, paid(order(1), "p", 100)),
        RefundReason::OrderExpired
    );
    let cancelled_first = given(log.into_iter().chain([cancelled(order(1), 1)]));
    assert_eq!(
        refund(&cancelled_first, paid(order(1), "p", 100)),
        RefundReason::OrderCancelled
    );
}

#[test]
fn every_payment_that_is_not_honoured_is_one_refund() {
    let log = [scheduled(1), reserved(order(1), 1, 1, 1)];
    let state = given(log.clone());
    assert_eq!(
        refund(&state, paid(order(1), "p", 99)),
        RefundReason::WrongAmount
    );
    let dollars = EventBody::OrderPaid(OrderPaid {
        order_id: order(1),
        payment_id: PaymentId::new("p").unwrap(),
        amount: Money::new(100, "USD".parse().unwrap()).unwrap(),
        paid_at: Timestamp::from_micros(3),
    });
    assert_eq!(refund(&state, dollars), RefundReason::WrongAmount);
    assert_eq!(
        refund(&state, paid(order(9), "p", 100)),
        RefundReason::UnknownOrder
    );
    let second = given(log.into_iter().chain([paid(order(1), "p", 100)]));
    assert_eq!(
        then(&second, paid(order(1), "p", 100)),
        None,
        "the same payment"
    );
    assert_eq!(
        refund(&second, paid(order(1), "q", 100)),
        RefundReason::AlreadyPaid
    );
    let rejected = given([
        scheduled(1),
        reserved(order(1), 1, 1, 1),
        reserved(order(2), 2, 1, 1),
        paid(order(2), "q", 100),
    ]);
    assert_eq!(rejected.refunds[0].reason, RefundReason::OrderRejected);
    assert_eq!(
        then(&rejected, paid(order(2), "q", 100)),
        None,
        "one refund"
    );
}

#[test]
fn only_the_buyer_cancels() {
    let state = given([scheduled(1), reserved(order(1), 1, 1, 1)]);
    assert_eq!(then(&state, cancelled(order(1), 2)), None);
    assert_eq!(then(&state, cancelled(order(9), 1)), None);
    assert_eq!(then(&state, expired(order(9))), None);
}

#[test]
fn a_shrink_takes_only_free_units_of_its_own_epoch() {
    let state = given([scheduled(3), reserved(order(1), 1, 2, 1)]);
    let accepted = |state: &SaleState, body| match then(state, body) {
        Some(Decision::StockAdjusted { accepted, .. }) => accepted,
        other => panic!("no adjustment: {other:?}"),
    };
    assert!(accepted(&state, shrink(1, 1)));
    assert!(!accepted(&state, shrink(2, 1)));
    assert!(accepted(&state, restock(5)));
    assert!(!accepted(&state, restock(i64::MAX)), "would overflow");
    assert!(!accepted(&given([]), restock(5)));
    let next_epoch = given([scheduled(3), reloaded(1, 50)]);
    assert!(!accepted(&next_epoch, shrink(1, 1)));
    assert!(accepted(&next_epoch, shrink(1, 2)));
}

/// PostgreSQL adds the units up in 64 bits, sold ones among them.
#[test]
fn a_restock_stands_only_while_all_units_can_be_counted() {
    let log = [scheduled(i64::MAX), reserved(order(1), 1, 2, 1)];
    let accepted = |log: Vec<EventBody>, units| match then(&given(log), restock(units)) {
        Some(Decision::StockAdjusted { accepted, .. }) => accepted,
        other => panic!("no adjustment: {other:?}"),
    };
    assert!(!accepted(log.to_vec(), 1));
    let shrunk = log.into_iter().chain([shrink(1, 1)]).collect::<Vec<_>>();
    assert!(accepted(shrunk.clone(), 1));
    assert!(!accepted(shrunk, 2));
}

#[test]
fn a_reload_stands_only_on_the_current_epoch_and_once_a_nonce() {
    let state = given([scheduled(3), reloaded(1, 50), reloaded(1, 51)]);
    assert_eq!(state.sale.as_ref().unwrap().epoch, Epoch::new(2));
    assert!(state.reloads[&Uuid::from_u128(50)]);
    assert!(!state.reloads[&Uuid::from_u128(51)]);
    assert_eq!(then(&state, reloaded(1, 50)), None);
    assert!(matches!(
        then(&state, reloaded(2, 52)),
        Some(Decision::SaleReloaded { accepted: true, .. })
    ));
}
