//! One value of every record, or two where a field may be missing.

use seckill_domain::{
    Actor, Epoch, Event, EventBody, EventId, KeyHash, Money, Offset, OrderCancelled, OrderExpired,
    OrderId, OrderOutcome, OrderPaid, OrderStatus, Outcome, PaymentId, Reason, RecordSkipped,
    RefundOutcome, RefundReason, RejectReason, SaleOutcome, SalePhase, SaleReloaded, SaleScheduled,
    SeckillReserved, StockAdjusted, Terms, Timestamp, Title, UserId, VoucherId,
};
use seckill_eventlog::{OutcomeRecord, SourceRef};
use uuid::Uuid;

/// 2026-06-18T12:00:00Z.
const NOON: i64 = 1_781_784_000_000_000;

pub(crate) fn voucher() -> VoucherId {
    VoucherId::new(42).unwrap()
}

pub(crate) fn order() -> OrderId {
    OrderId::from_parts(voucher(), 0x00c0_ffee, 7)
}

fn uuid(last: u128) -> Uuid {
    Uuid::from_u128(0x0197_8300_0000_7000_8000_0000_0000_0000 | last)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOON + seconds * 1_000_000)
}

pub(crate) fn euros(cents: i64) -> Money {
    Money::new(cents, "EUR".parse().unwrap()).unwrap()
}

fn user() -> UserId {
    UserId::new(1001).unwrap()
}

fn payment() -> PaymentId {
    PaymentId::new("pay_3f9").unwrap()
}

pub(crate) fn event(body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(uuid(1)),
        voucher_id: voucher(),
        occurred_at: at(0),
        body,
    }
}

pub(crate) fn scheduled() -> SaleScheduled {
    let terms = Terms {
        title: Title::new("Concert ticket, 第一排").unwrap(),
        price: euros(4_990),
        stock: 500,
        max_quantity: 2,
        opens_at: at(60),
        closes_at: at(3_600),
        hold_seconds: 900,
        requires_sale_token: true,
    };
    SaleScheduled { terms }
}

pub(crate) fn reserved(key_hash: Option<KeyHash>) -> SeckillReserved {
    SeckillReserved {
        order_id: order(),
        user_id: user(),
        quantity: 2,
        price: euros(4_990),
        pay_by: at(960),
        epoch: Epoch::FIRST,
        key_hash,
    }
}

/// With a name for each, which is also its golden file's.
pub(crate) fn events() -> Vec<(&'static str, Event)> {
    let adjusted = |delta, epoch| StockAdjusted {
        delta,
        reason: Reason::new("found a box").unwrap(),
        epoch,
    };
    let reloaded = SaleReloaded {
        previous: Epoch::FIRST,
        epoch: Epoch::new(2),
        nonce: uuid(9),
        first: Some(false),
    };
    let paid = OrderPaid {
        order_id: order(),
        payment_id: payment(),
        amount: euros(9_980),
        paid_at: at(100),
    };
    let cancelled = OrderCancelled {
        order_id: order(),
        user_id: user(),
    };
    let expired = OrderExpired {
        order_id: order(),
        pay_by: at(960),
    };
    let skipped = RecordSkipped {
        partition: 3,
        offset: Offset::new(1_042),
        reason: Reason::new("written by a test").unwrap(),
        actor: Actor::new("ops").unwrap(),
    };
    let hash = KeyHash::from_bytes(*b"0123456789abcdef");
    let shrink = adjusted(-3, Some(Epoch::FIRST));
    let bodies = [
        ("SaleScheduled", EventBody::SaleScheduled(scheduled())),
        (
            "StockAdjusted",
            EventBody::StockAdjusted(adjusted(25, None)),
        ),
        ("StockAdjusted.shrink", EventBody::StockAdjusted(shrink)),
        ("SaleClosed", EventBody::SaleClosed),
        ("SaleReloaded", EventBody::SaleReloaded(reloaded)),
        (
            "SeckillReserved",
            EventBody::SeckillReserved(reserved(Some(hash))),
        ),
        (
            "SeckillReserved.keyless",
            EventBody::SeckillReserved(reserved(None)),
        ),
        ("OrderPaid", EventBody::OrderPaid(paid)),
        ("OrderCancelled", EventBody::OrderCancelled(cancelled)),
        ("OrderExpired", EventBody::OrderExpired(expired)),
        ("RecordSkipped", EventBody::RecordSkipped(skipped)),
    ];
    bodies.map(|(name, body)| (name, event(body))).into()
}

fn outcome(outcome: Outcome) -> OutcomeRecord {
    OutcomeRecord {
        event_id: EventId::from_uuid(uuid(2)),
        voucher_id: voucher(),
        occurred_at: at(1),
        source: SourceRef {
            partition: 11,
            offset: Offset::new(123_456),
        },
        outcome,
    }
}

/// With a name for each, which is also its golden file's.
pub(crate) fn outcomes() -> Vec<(&'static str, OutcomeRecord)> {
    let order = |status, rejected| {
        Outcome::Order(OrderOutcome {
            order_id: order(),
            user_id: user(),
            quantity: 2,
            amount: euros(9_980),
            status,
            version: 1,
            rejected,
            pay_by: at(960),
        })
    };
    let sale = SaleOutcome {
        phase: SalePhase::AdjustmentRefused,
        version: 123_457,
        delta: -3,
    };
    let refund = RefundOutcome {
        payment_id: payment(),
        order_id: self::order(),
        amount_cents: 9_980,
        currency: "EUR".parse().unwrap(),
        reason: RefundReason::OrderExpired,
    };
    let rejected = order(OrderStatus::Rejected, Some(RejectReason::StaleEpoch));
    let outcomes = [
        ("OrderOutcome", order(OrderStatus::Unpaid, None)),
        ("OrderOutcome.rejected", rejected),
        ("SaleOutcome", Outcome::Sale(sale)),
        ("RefundDue", Outcome::Refund(refund)),
    ];
    outcomes.map(|(name, it)| (name, outcome(it))).into()
}
