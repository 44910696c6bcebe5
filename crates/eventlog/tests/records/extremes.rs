//! Records at the ends of every range. Their bytes may stand in logs: the files are read for ever, so
//! no range of a schema ever gets narrower. A new field adds files, and changes none.

use seckill_domain::{
    Event, EventId, Offset, OrderOutcome, OrderStatus, Outcome, RefundOutcome, RefundReason,
    RejectReason, SaleOutcome, SalePhase,
};
use seckill_eventlog::{
    OutcomeRecord, SourceRef, decode_event, decode_outcome, encode_event, encode_outcome,
};

use crate::golden::{golden, golden_or_new};
use crate::samples::{End, euros, least, most};

impl End {
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
        let kept = golden_or_new(&name, &encode_event(&event));
        assert_eq!(decode_event(&kept).as_ref(), Ok(&event), "{name}");
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
