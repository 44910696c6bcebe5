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

/// One end of every range: the least or the most that a field may be.
pub(crate) struct End {
    pub(crate) name: &'static str,
    pub(crate) voucher_id: VoucherId,
    pub(crate) id: Uuid,
    pub(crate) order_id: OrderId,
    pub(crate) user_id: UserId,
    pub(crate) payment_id: PaymentId,
    pub(crate) at: Timestamp,
    pub(crate) text: String,
    pub(crate) cents: i64,
    /// Of an `int` that is at least 1.
    pub(crate) count: u32,
    pub(crate) epoch: Epoch,
    pub(crate) optional: bool,
    pub(crate) delta: i64,
    /// Of a `long` that is not negative.
    pub(crate) long: i64,
}

pub(crate) fn least() -> End {
    let voucher_id = VoucherId::new(1).unwrap();
    End {
        name: "least",
        voucher_id,
        id: Uuid::nil(),
        order_id: OrderId::from_parts(voucher_id, 0, 0),
        user_id: UserId::new(1).unwrap(),
        payment_id: PaymentId::new("!").unwrap(),
        at: Timestamp::MIN,
        text: String::new(),
        cents: 0,
        count: 1,
        epoch: Epoch::FIRST,
        optional: false,
        delta: i64::MIN,
        long: 0,
    }
}

pub(crate) fn most() -> End {
    let voucher_id = VoucherId::new(VoucherId::MAX.cast_signed()).unwrap();
    End {
        name: "most",
        voucher_id,
        id: Uuid::max(),
        order_id: OrderId::from_parts(voucher_id, u64::MAX, u64::MAX),
        user_id: UserId::new(i64::MAX).unwrap(),
        payment_id: PaymentId::new("~".repeat(64)).unwrap(),
        at: Timestamp::MAX,
        // Longer than what is written now, with every kind of control character but NUL.
        text: "\u{1}\t\r\n\u{1b}\u{7f}\u{80}\u{9f}\u{202e}\u{ffff}\u{10ffff}".repeat(40),
        cents: i64::MAX,
        count: i32::MAX.cast_unsigned(),
        epoch: Epoch::MAX,
        optional: true,
        delta: i64::MAX,
        long: i64::MAX,
    }
}

impl End {
    fn scheduled(&self) -> EventBody {
        // Apart by the shortest time there is, at this end of the range.
        let closes_at = Timestamp::from_micros(self.at.as_micros() + 1);
        let opens_at = Timestamp::from_micros(closes_at.as_micros() - 1);
        EventBody::SaleScheduled(SaleScheduled {
            terms: Terms {
                title: Title::new(self.text.as_str()).unwrap(),
                price: euros(self.cents),
                stock: self.long,
                max_quantity: self.count,
                opens_at,
                closes_at,
                hold_seconds: self.count,
                requires_sale_token: self.optional,
            },
        })
    }

    pub(crate) fn bodies(&self) -> [EventBody; 9] {
        let order_id = self.order_id;
        [
            self.scheduled(),
            EventBody::StockAdjusted(StockAdjusted {
                delta: self.delta,
                reason: Reason::new(self.text.as_str()).unwrap(),
                epoch: self.optional.then_some(self.epoch),
            }),
            EventBody::SaleClosed,
            EventBody::SaleReloaded(SaleReloaded {
                previous: self.epoch,
                epoch: self.epoch,
                nonce: self.id,
                first: self.optional.then_some(true),
            }),
            EventBody::SeckillReserved(SeckillReserved {
                order_id,
                user_id: self.user_id,
                quantity: self.count,
                price: euros(self.cents),
                pay_by: self.at,
                epoch: self.epoch,
                key_hash: self.optional.then(|| KeyHash::from_bytes([0xff; 16])),
            }),
            EventBody::OrderPaid(OrderPaid {
                order_id,
                payment_id: self.payment_id.clone(),
                amount: euros(self.cents),
                paid_at: self.at,
            }),
            EventBody::OrderCancelled(OrderCancelled {
                order_id,
                user_id: self.user_id,
            }),
            EventBody::OrderExpired(OrderExpired {
                order_id,
                pay_by: self.at,
            }),
            EventBody::RecordSkipped(RecordSkipped {
                partition: if self.optional { i32::MAX } else { 0 },
                offset: Offset::new(self.long),
                reason: Reason::new(self.text.as_str()).unwrap(),
                actor: Actor::new(self.text.as_str()).unwrap(),
            }),
        ]
    }
}
