//! The facts. Each is written once into the log and never changed.
//!
//! The ranges of its fields, beyond their types, are checked here too. Writers and readers of the log use the same
//! check: [`Event::new`].

use uuid::Uuid;

use crate::{
    Actor, Epoch, EventId, KeyHash, Money, Offset, OrderId, PaymentId, Reason, Timestamp, UserId,
    VoucherId, sale::Terms,
};

/// One record of the event topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its own id, by which consumers deduplicate.
    pub event_id: EventId,
    /// The sale it belongs to: the record's key and so its partition.
    pub voucher_id: VoucherId,
    /// When its writer made it. For people: nothing is decided by it.
    pub occurred_at: Timestamp,
    /// What happened.
    pub body: EventBody,
}

/// What an event says happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// A sale was put up.
    SaleScheduled(SaleScheduled),
    /// Stock was added, or a reduction was asked for.
    StockAdjusted(StockAdjusted),
    /// An operator closed the sale: it takes no more orders. Its live orders can still be paid.
    SaleClosed,
    /// Redis was lost and is loaded again: a new epoch begins.
    SaleReloaded(SaleReloaded),
    /// Units were taken in Redis for a buyer.
    SeckillReserved(SeckillReserved),
    /// The provider says that a payment succeeded.
    OrderPaid(OrderPaid),
    /// The buyer gave the order up.
    OrderCancelled(OrderCancelled),
    /// The time to pay is over.
    OrderExpired(OrderExpired),
    /// An operator decided that a record is passed over by every fold.
    RecordSkipped(RecordSkipped),
}

impl EventBody {
    /// The Avro record's name, which is also the last part of `ce_type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SaleScheduled(_) => "SaleScheduled",
            Self::StockAdjusted(_) => "StockAdjusted",
            Self::SaleClosed => "SaleClosed",
            Self::SaleReloaded(_) => "SaleReloaded",
            Self::SeckillReserved(_) => "SeckillReserved",
            Self::OrderPaid(_) => "OrderPaid",
            Self::OrderCancelled(_) => "OrderCancelled",
            Self::OrderExpired(_) => "OrderExpired",
            Self::RecordSkipped(_) => "RecordSkipped",
        }
    }

    /// The order it is about, if it is about one.
    #[must_use]
    pub const fn order_id(&self) -> Option<OrderId> {
        match self {
            Self::SeckillReserved(e) => Some(e.order_id),
            Self::OrderPaid(e) => Some(e.order_id),
            Self::OrderCancelled(e) => Some(e.order_id),
            Self::OrderExpired(e) => Some(e.order_id),
            Self::SaleScheduled(_)
            | Self::StockAdjusted(_)
            | Self::SaleClosed
            | Self::SaleReloaded(_)
            | Self::RecordSkipped(_) => None,
        }
    }
}

/// A sale was put up, in [`Epoch::FIRST`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleScheduled {
    /// What is sold, when and how.
    pub terms: Terms,
}

/// `delta` units more (restock) or fewer (shrink), never 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockAdjusted {
    /// Units; negative for a shrink.
    pub delta: i64,
    /// The operator's reason.
    pub reason: Reason,
    /// A shrink: the epoch in which Redis gave its units. A restock: none.
    pub epoch: Option<Epoch>,
}

/// A request for a new epoch; it stands only if `previous` is still the sale's epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleReloaded {
    /// The epoch that its writer read before it shut the sale.
    pub previous: Epoch,
    /// The epoch that begins.
    pub epoch: Epoch,
    /// The claim under which its writer loads Redis.
    pub nonce: Uuid,
    /// Whether Redis never had the sale before, so that nothing was lost. Nothing is decided by it;
    /// none in records of the schema's first version.
    pub first: Option<bool>,
}

/// Units were taken in Redis for a buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeckillReserved {
    /// The order.
    pub order_id: OrderId,
    /// The buyer.
    pub user_id: UserId,
    /// Units, at least 1.
    pub quantity: u32,
    /// The price of one unit.
    pub price: Money,
    /// Until when the buyer may pay, by Redis' clock.
    pub pay_by: Timestamp,
    /// The epoch in which Redis granted it.
    pub epoch: Epoch,
    /// The hash of the request's idempotency key.
    pub key_hash: Option<KeyHash>,
}

/// The provider says that a payment succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderPaid {
    /// The order that the payment names.
    pub order_id: OrderId,
    /// The provider's id.
    pub payment_id: PaymentId,
    /// What was paid.
    pub amount: Money,
    /// When, by the provider's clock.
    pub paid_at: Timestamp,
}

/// The buyer gave the order up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderCancelled {
    /// The order.
    pub order_id: OrderId,
    /// The buyer who asked.
    pub user_id: UserId,
}

/// The time to pay is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderExpired {
    /// The order.
    pub order_id: OrderId,
    /// The deadline that passed.
    pub pay_by: Timestamp,
}

/// An operator decided that the record at `offset` of `partition` is passed over by every fold, live or
/// from the beginning. It stands behind that record, in the same partition, under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSkipped {
    /// The partition of the record, which is this event's own.
    pub partition: i32,
    /// Where the record stands.
    pub offset: Offset,
    /// Why the operator decided so.
    pub reason: Reason,
    /// Who decided.
    pub actor: Actor,
}

/// A field whose value is not allowed in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct EventError {
    /// The field's name in the schema.
    pub field: &'static str,
    /// What it has to be.
    pub problem: &'static str,
}

/// The largest value of Avro's `int`.
const INT_MAX: u32 = i32::MAX.cast_unsigned();

impl Event {
    /// An event that every reader of the log accepts.
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

    /// Checks that every reader of the log accepts the event. Ranges never become narrower: what a log
    /// contains stays valid for ever.
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
