//! The checker of the promises: it finds a kept sale kept, and each kind of damage where it is.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be built fails by panicking"
)]

use seckill_bench::answer::Answer;
use seckill_bench::demo::evidence::{
    ClickRecord, Evidence, HoldRow, OrderRow, PaymentRecord, RedisView, RefundRow, Restored,
    SaleRow, Watched,
};
use seckill_bench::demo::{invariants, log};
use seckill_domain::{
    Currency, Epoch, Event, EventBody, EventId, Money, Offset, OrderExpired, OrderId, OrderPaid,
    OrderStatus, PaymentId, SaleScheduled, SeckillReserved, Terms, Timestamp, Title, UserId,
    VoucherId,
};
use uuid::Uuid;

const PRICE_CENTS: i64 = 500;

fn voucher() -> VoucherId {
    VoucherId::new(9).unwrap()
}

fn order_id(number: u64) -> OrderId {
    OrderId::from_parts(voucher(), 1, number)
}

fn cents(cents: i64) -> Money {
    let currency: Currency = "EUR".parse().unwrap();
    Money::new(cents, currency).unwrap()
}

fn scheduled(stock: i64) -> EventBody {
    EventBody::SaleScheduled(SaleScheduled {
        terms: Terms {
            title: Title::new("two units").unwrap(),
            price: cents(PRICE_CENTS),
            stock,
            max_quantity: 1,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            hold_seconds: 5,
            requires_sale_token: false,
        },
    })
}

fn reserved(order: u64, user: i64) -> EventBody {
    EventBody::SeckillReserved(SeckillReserved {
        order_id: order_id(order),
        user_id: UserId::new(user).unwrap(),
        quantity: 1,
        price: cents(PRICE_CENTS),
        pay_by: Timestamp::from_micros(5),
        epoch: Epoch::FIRST,
        key_hash: None,
    })
}

fn paid(order: u64, payment: &str) -> EventBody {
    EventBody::OrderPaid(OrderPaid {
        order_id: order_id(order),
        payment_id: PaymentId::new(payment).unwrap(),
        amount: cents(PRICE_CENTS),
        paid_at: Timestamp::from_micros(2),
    })
}

fn expired(order: u64) -> EventBody {
    EventBody::OrderExpired(OrderExpired {
        order_id: order_id(order),
        pay_by: Timestamp::from_micros(5),
    })
}

fn events() -> Vec<(Offset, Event)> {
    let bodies = [
        scheduled(2),
        reserved(1, 1),
        reserved(2, 2),
        paid(1, "p1"),
        expired(2),
        paid(2, "p2"),
        reserved(3, 3),
        paid(3, "p3"),
    ];
    let event = |(number, body): (i64, EventBody)| {
        let event = Event {
            event_id: EventId::from_uuid(Uuid::from_u128(number.unsigned_abs().into())),
            voucher_id: voucher(),
            occurred_at: Timestamp::from_micros(number),
            body,
        };
        (Offset::new(number), event)
    };
    (10..).zip(bodies).map(event).collect()
}

fn payment(order: u64, payment_id: &str, refund_expected: bool) -> PaymentRecord {
    PaymentRecord {
        payment_id: payment_id.to_owned(),
        order_id: order_id(order),
        amount_cents: PRICE_CENTS,
        refund_expected,
        acknowledged: 1,
    }
}

fn hold(order: u64, user_id: i64, live: bool) -> HoldRow {
    HoldRow {
        user_id,
        order_id: order_id(order),
        quantity: 1,
        live,
    }
}

/// Two units: user 1 pays, user 2's order expires and is paid too late, user 3 buys its unit.
fn kept() -> Evidence {
    let log = log::fold(&events(), 18, 18);
    let orders = log.state.orders.values().map(OrderRow::from).collect();
    let refunds = log.state.refunds.iter().map(RefundRow::from).collect();
    let click = |wave, user, answer| ClickRecord { wave, user, answer };
    Evidence {
        clicks: vec![
            click(1, 1, Answer::Reserved(order_id(1))),
            click(1, 1, Answer::Pending(order_id(1))),
            click(1, 2, Answer::Reserved(order_id(2))),
            click(1, 3, Answer::None),
            click(2, 3, Answer::Reserved(order_id(3))),
        ],
        payments: vec![
            payment(1, "p1", false),
            payment(2, "p2", true),
            payment(3, "p3", false),
        ],
        sale: SaleRow {
            initial: 2,
            adjusted: 0,
            stock_left: 0,
            unpaid: 0,
            paid: 2,
        },
        orders,
        refunds,
        redis: RedisView {
            stock: 0,
            unsettled: 0,
            pending_events: 0,
            holds: vec![hold(1, 1, true), hold(2, 2, false), hold(3, 3, true)],
        },
        log,
        restored: Restored {
            paid: 1,
            stock_left: 1,
            redis_stock: 1,
        },
        watched: Watched {
            samples: 1,
            least_redis: 0,
            least_stock_left: 0,
        },
    }
}

/// The numbers of the promises that are broken after a change of the evidence.
fn broken_by(change: impl FnOnce(&mut Evidence)) -> Vec<u8> {
    let mut evidence = kept();
    change(&mut evidence);
    let verdicts = invariants::check(&evidence);
    let broken = verdicts.iter().filter(|verdict| !verdict.holds);
    broken.map(|verdict| verdict.number).collect()
}

fn order(evidence: &mut Evidence, number: u64) -> &mut OrderRow {
    let id = order_id(number);
    evidence
        .orders
        .iter_mut()
        .find(|order| order.order_id == id)
        .unwrap()
}

#[test]
fn a_kept_sale_is_found_kept() {
    assert_eq!(broken_by(|_| ()), [0_u8; 0]);
}

#[test]
fn a_unit_lost_or_doubled_in_a_store_is_found() {
    assert_eq!(broken_by(|e| e.redis.stock += 1), [1]);
    assert_eq!(broken_by(|e| e.redis.stock -= 1), [1]);
    assert_eq!(broken_by(|e| e.sale.stock_left += 1), [1, 7]);
}

#[test]
fn what_is_still_in_flight_is_found() {
    assert_eq!(broken_by(|e| e.redis.unsettled = 1), [1]);
    assert_eq!(broken_by(|e| e.redis.pending_events = 1), [1]);
    assert_eq!(broken_by(|e| e.log.end_offset = 19), [1]);
}

#[test]
fn an_oversale_is_found_even_if_it_passed() {
    assert_eq!(broken_by(|e| e.log.most_committed = 3), [2]);
    assert_eq!(broken_by(|e| e.watched.least_redis = -1), [2]);
    assert_eq!(broken_by(|e| e.watched.least_stock_left = -1), [2]);
    assert_eq!(broken_by(|e| e.watched.samples = 0), [2]);
}

#[test]
fn two_live_orders_of_one_user_are_found_even_if_one_has_ended_since() {
    // Its order 2 was live from offset 12 to 14, its order 1 is from 11 on.
    let broken = broken_by(|e| order(e, 2).user_id = 1);
    assert!(broken.contains(&3), "{broken:?}");
    // Order 3 was made after order 2 had expired.
    let broken = broken_by(|e| order(e, 3).user_id = 2);
    assert!(!broken.contains(&3), "{broken:?}");
}

#[test]
fn a_broken_promise_is_found() {
    let broken = broken_by(|e| e.orders.retain(|o| o.order_id != order_id(2)));
    assert!(broken.contains(&4), "{broken:?}");
    let broken = broken_by(|e| order(e, 1).status = OrderStatus::Rejected);
    assert!(broken.contains(&4), "{broken:?}");
    let another = Answer::Reserved(order_id(3));
    assert_eq!(broken_by(|e| e.clicks[1].answer = another), [4]);
    let pending_for_ever = |e: &mut Evidence| {
        e.clicks[4].answer = Answer::Pending(order_id(3));
        order(e, 3).status = OrderStatus::Unpaid;
    };
    assert!(broken_by(pending_for_ever).contains(&4));
}

#[test]
fn units_restored_twice_or_not_at_all_are_found() {
    assert_eq!(broken_by(|e| e.restored.redis_stock = 2), [5]);
    assert_eq!(broken_by(|e| e.restored.stock_left = 0), [5]);
    assert_eq!(broken_by(|e| e.redis.holds[1].live = true), [5]);
    assert_eq!(broken_by(|e| e.redis.holds[0].live = false), [5]);
}

#[test]
fn a_payment_with_no_fate_or_with_two_is_found() {
    assert_eq!(broken_by(|e| e.refunds.clear()), [6, 7]);
    assert_eq!(broken_by(|e| e.refunds[0].payment_id = "p1".into()), [6, 7]);
    assert_eq!(broken_by(|e| e.payments[0].refund_expected = true), [6]);
    assert_eq!(broken_by(|e| e.payments.truncate(2)), [6]);
    // Its order still waits for exactly this amount: nothing justifies the refund.
    let unjustified = |e: &mut Evidence| {
        let order = order(e, 2);
        order.status = OrderStatus::Unpaid;
        order.closed_offset = None;
    };
    assert!(broken_by(unjustified).contains(&6));
}

#[test]
fn tables_that_are_not_the_logs_fold_are_found() {
    assert_eq!(broken_by(|e| order(e, 3).reserved_offset = 15), [7]);
    assert_eq!(
        broken_by(|e| e.refunds[0].reason = "wrong-amount".into()),
        [7]
    );
    assert_eq!(broken_by(|e| e.log.duplicates_change_nothing = false), [7]);
}

#[test]
fn unsold_units_are_found() {
    assert_eq!(broken_by(|e| e.sale.initial = 3), [1, 5, 7, 8]);
}

#[test]
fn the_log_is_folded_with_its_peak_and_its_duplicates() {
    let log = log::fold(&events(), 18, 18);
    assert_eq!(
        (log.events, log.most_committed, log.least_available),
        (8, 2, 0)
    );
    assert!(log.duplicates_change_nothing);
}
