//! What an event may say beyond what the types of its fields say already. One rule for those who
//! write into the log and for those who read it: [`Event::new`].

use crate::{
    Epoch, Event, EventBody, EventId, OrderId, RecordSkipped, SaleReloaded, SaleScheduled,
    SeckillReserved, StockAdjusted, Timestamp, VoucherId,
};

/// The field of an event that no log may hold so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct EventError {
    /// The field's name in the schema.
    pub field: &'static str,
    /// What it has to be.
    pub problem: &'static str,
}

/// Avro's `int` has no more room.
const INT_MAX: u32 = i32::MAX.cast_unsigned();

impl Event {
    /// An event that every reader of the log takes.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn new(
        event_id: EventId,
        voucher_id: VoucherId,
        occurred_at: Timestamp,
        body: EventBody,
    ) -> Result<Self, EventError> {
        let event = Self {
            event_id,
            voucher_id,
            occurred_at,
            body,
        };
        event.check().map(|()| event)
    }

    /// Whether every reader of the log takes it. Ranges never get narrower: what a log holds stays
    /// an event for ever.
    ///
    /// # Errors
    /// [`EventError`] for the first field that is out of its range.
    pub fn check(&self) -> Result<(), EventError> {
        if let Some(order_id) = self.body.order_id() {
            of_this_sale(order_id, self.voucher_id)?;
        }
        match &self.body {
            EventBody::SaleScheduled(e) => scheduled(e),
            EventBody::StockAdjusted(e) => adjusted(e),
            EventBody::SaleReloaded(e) => reloaded(e),
            EventBody::SeckillReserved(e) => reserved(e),
            EventBody::RecordSkipped(e) => skipped(e),
            EventBody::SaleClosed
            | EventBody::OrderPaid(_)
            | EventBody::OrderCancelled(_)
            | EventBody::OrderExpired(_) => Ok(()),
        }
    }
}

fn scheduled(e: &SaleScheduled) -> Result<(), EventError> {
    let terms = &e.terms;
    ensure(terms.stock >= 0, "stock", "has to be 0 or more")?;
    positive_int("max_quantity", terms.max_quantity)?;
    positive_int("hold_seconds", terms.hold_seconds)?;
    let ordered = terms.opens_at < terms.closes_at;
    ensure(ordered, "closes_at", "has to be after opens_at")
}

fn adjusted(e: &StockAdjusted) -> Result<(), EventError> {
    ensure(e.delta != 0, "delta", "has to be other than 0")?;
    e.epoch.map_or(Ok(()), |number| epoch("epoch", number))
}

fn reloaded(e: &SaleReloaded) -> Result<(), EventError> {
    epoch("previous_epoch", e.previous)?;
    epoch("epoch", e.epoch)
}

fn reserved(e: &SeckillReserved) -> Result<(), EventError> {
    positive_int("quantity", e.quantity)?;
    epoch("epoch", e.epoch)
}

fn skipped(e: &RecordSkipped) -> Result<(), EventError> {
    ensure(e.partition >= 0, "partition", "has to be 0 or more")?;
    ensure(e.offset.get() >= 0, "offset", "has to be 0 or more")
}

fn of_this_sale(order_id: OrderId, voucher_id: VoucherId) -> Result<(), EventError> {
    let same = order_id.voucher_id() == voucher_id;
    ensure(same, "order_id", "has to be an order of this voucher")
}

fn epoch(field: &'static str, epoch: Epoch) -> Result<(), EventError> {
    let known = (Epoch::FIRST..=Epoch::MAX).contains(&epoch);
    ensure(known, field, "has to be 1 or more, and to have a successor")
}

fn positive_int(field: &'static str, number: u32) -> Result<(), EventError> {
    let fits = (1..=INT_MAX).contains(&number);
    ensure(fits, field, "has to be from 1 to 2147483647")
}

fn ensure(holds: bool, field: &'static str, problem: &'static str) -> Result<(), EventError> {
    if holds {
        Ok(())
    } else {
        Err(EventError { field, problem })
    }
}
