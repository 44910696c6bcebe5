//! The rules of a flash sale, and nothing else: ids, events, the fold that decides, and what a
//! decision means for the stock in Redis and for consumers. There is no clock, no I/O and no async
//! here. Time, offsets and ids are parameters, so that a replay decides exactly as the live run did.

#![warn(missing_docs)]

mod decide;
mod effect;
mod event;
mod ids;
mod log_batch;
mod money;
mod partition;
mod refusal;
mod sale;
mod text;
mod timestamp;
mod trace;

pub use decide::{Decision, Lookup, RefundReason, RejectReason, decide};
pub use effect::{
    AdjustmentRow, Effect, OrderOutcome, Outcome, RefundOutcome, SaleOutcome, SalePhase, StockOp,
    effects_of_adjustment, effects_of_order, effects_of_refund, effects_of_sale,
};
pub use event::{
    Event, EventBody, EventError, OrderCancelled, OrderExpired, OrderPaid, RecordSkipped,
    SaleReloaded, SaleScheduled, SeckillReserved, StockAdjusted,
};
pub use ids::{EventId, IdError, KeyHash, OrderId, OrderIdSource, PaymentId, UserId, VoucherId};
pub use log_batch::{Identity, LastRecord, LogBatch, LogRef};
pub use money::{Currency, Money, MoneyError};
pub use partition::partition_of;
pub use refusal::Refusal;
pub use sale::{Order, OrderStatus, PaymentFate, Refund, Sale, SaleState, Terms};
pub use text::{Actor, Reason, TextError, Title};
pub use timestamp::{Timestamp, TimestampError};
pub use trace::{TraceParent, TraceParentError};

/// A sale's generation: 1 when it is scheduled, one more each time Redis was loaded anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(i64);

impl Epoch {
    /// The epoch that `SaleScheduled` begins.
    pub const FIRST: Self = Self(1);

    /// The last one that has a successor, and so the last one that an event may name.
    pub const MAX: Self = Self(i64::MAX - 1);

    /// From its number in an event or a row.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The next epoch. The largest number is its own successor; no event has it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// A position in one partition of the event topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(i64);

impl Offset {
    /// From Kafka's number.
    #[must_use]
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// Kafka's number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The position after this record: where a view that has applied it continues.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
