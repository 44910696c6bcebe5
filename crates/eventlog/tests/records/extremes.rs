//! Records at the ends of every range. Their bytes may stand in logs: the files are read for ever, so
//! no range of a schema ever gets narrower. A new field adds files, and changes none.

use seckill_domain::{
    Actor, Epoch, Event, EventBody, EventId, KeyHash, Offset, OrderCancelled, OrderExpired,
    OrderId, OrderOutcome, OrderPaid, OrderStatus, Outcome, PaymentId, Reason, RecordSkipped,
    RefundOutcome, RefundReason, RejectReason, SaleOutcome, SalePhase, SaleReloaded, SaleScheduled,
    SeckillReserved, StockAdjusted, Terms, Timestamp, Title, UserId, VoucherId,
};
use seckill_eventlog::{
    OutcomeRecord, SourceRef, decode_event, decode_outcome, encode_event, encode_outcome,
};
use uuid::Uuid;

use crate::golden::golden;
use crate::samples::euros;

/// One end of every range: the least or the most that a field may be.
struct End {
    name: &'static str,
    voucher_id: VoucherId,
    id: Uuid,
    order_id: OrderId,
    user_id: UserId,
    payment_id: PaymentId,
    at: Timestamp,
    text: String,
    cents: i64,
    /// Of an `int` that is at least 1.
    count: u32,
    epoch: Epoch,
    optional: bool,
    delta: i64,
    /// Of a `long` that is not negative.
    long: i64,
}

fn least() -> End {
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

fn most() -> End {
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

    fn bodies(&self) -> [EventBody; 9] {
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

    /// With the name of the file of each.
    fn events(&self) -> Vec<(String, Event)> {
        let event_id = EventId::from_uuid(self.id);
        let bodies = self.bodies().into_iter();
        bodies
            .map(|body| {
                let name = format!("{}.{}", body.name(), self.name);
                let event = Event::new(event_id, self.voucher_id, self.at, body);
                (name, event.unwrap())
            })
            .collect()
    }

    fn outcomes(&self) -> Vec<(String, OutcomeRecord)> {
        let order = OrderOutcome {
            order_id: self.order_id,
            user_id: self.user_id,
            quantity: self.count,
            amount: euros(self.cents),
            status: OrderStatus::Rejected,
            version: self.long,
            rejected: self.optional.then_some(RejectReason::StaleEpoch),
            pay_by: self.at,
        };
        let sale = SaleOutcome {
            phase: SalePhase::Adjusted,
            version: self.long,
            delta: self.delta,
        };
        let refund = RefundOutcome {
            payment_id: self.payment_id.clone(),
            order_id: self.order_id,
            amount_cents: self.cents,
            currency: "EUR".parse().unwrap(),
            reason: RefundReason::UnknownOrder,
        };
        [
            Outcome::Order(order),
            Outcome::Sale(sale),
            Outcome::Refund(refund),
        ]
        .map(|outcome| OutcomeRecord {
            event_id: EventId::from_uuid(self.id),
            voucher_id: self.voucher_id,
            occurred_at: self.at,
            source: SourceRef {
                partition: if self.optional { i32::MAX } else { 0 },
                offset: Offset::new(self.long),
            },
            outcome,
        })
        .map(|record| (format!("{}.{}", record.name(), self.name), record))
        .into()
    }
}

#[test]
fn events_at_the_ends_of_every_range_are_read_for_ever() {
    for (name, event) in [least(), most()].iter().flat_map(End::events) {
        assert_eq!(decode_event(&golden(&name)).as_ref(), Ok(&event), "{name}");
        // What is written now reaches as far.
        assert_eq!(decode_event(&encode_event(&event)), Ok(event), "{name}");
    }
}

#[test]
fn outcomes_at_the_ends_of_every_range_are_read_for_ever() {
    for (name, outcome) in [least(), most()].iter().flat_map(End::outcomes) {
        let read = decode_outcome(&golden(&name));
        assert_eq!(read.as_ref(), Ok(&outcome), "{name}");
        assert_eq!(
            decode_outcome(&encode_outcome(&outcome)),
            Ok(outcome),
            "{name}"
        );
    }
}
