//! The arguments and the results of the reservations.

use std::time::Duration;

use seckill_domain::{KeyHash, OrderId, Refusal, Timestamp, TraceParent, UserId};
use seckill_orderbook::Orderbook;
use uuid::Uuid;

use crate::http::problem::Problem;

/// The limits that reservations work under.
#[derive(Debug, Clone, Copy)]
pub struct ReservationsOptions {
    /// T: how long after the first sending of the script an ack still makes a promise.
    pub promise_deadline: Duration,
    /// The producer's `delivery.timeout.ms`: after it a record is given up, and not earlier.
    pub delivery_timeout: Duration,
    /// The most orders that may wait for Redis or Kafka at a time.
    pub max_in_flight: usize,
    /// How long an order may expect to wait for its call to Redis.
    pub queue_patience: Duration,
}

/// What the relay reads from.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// The sales that Redis serves.
    pub orderbook: Orderbook,
    /// The event topic's number of partitions.
    pub partitions: i32,
}

/// A buyer's request.
#[derive(Debug, Clone, Copy)]
pub struct PlaceOrder {
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// The hash of the request's idempotency key.
    pub key_hash: Option<KeyHash>,
    /// The request's trace.
    pub traceparent: TraceParent,
    /// The nonce of its valid sale token.
    pub sale_token: Option<Uuid>,
}

/// An order that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// The order, an earlier one where the request repeats it.
    pub order_id: OrderId,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
    /// The answer to the buyer.
    pub state: PlacedState,
}

/// The answer to an order that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlacedState {
    /// A promise: the order will never be rejected.
    Reserved,
    /// The log has not confirmed it in time.
    Pending,
    /// It is the order of an earlier request, and its units are free again.
    Released,
}

/// Why an order was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Redis does not serve this sale: unknown, over, or being loaded.
    #[error("the sale is not served at the moment")]
    NotServed,
    /// Too many orders wait already. No stock was touched.
    #[error("too many orders are being taken")]
    Overloaded,
    /// Redis or Kafka does not answer, or the process is stopping. If Redis was asked, the order
    /// may have been taken after all; asking again with the same key tells.
    #[error("orders cannot be taken at the moment")]
    Unavailable,
    /// The sale refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why units were not taken from a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShrinkError {
    /// Redis does not serve this sale: unknown, over, or being loaded.
    #[error("the sale is not served at the moment")]
    NotServed,
    /// Fewer units are free.
    #[error("only {free} units are neither sold nor held")]
    Committed {
        /// Units free.
        free: i64,
    },
    /// Redis or Kafka does not answer, or the process is stopping. If Redis was asked, the units
    /// may have been taken after all.
    #[error("stock cannot be changed at the moment")]
    Unavailable,
    /// The units were taken; the event is not acknowledged yet, and will be published again.
    #[error("the units are taken, and the event is not acknowledged yet")]
    Unacknowledged,
}

/// Why it is not known that an event is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// It was not sent, for this reason.
    #[error("the event was not sent: {0}")]
    NotSent(String),
    /// No ack within the promise deadline: it may still get there.
    #[error("the event is not acknowledged yet")]
    Unacknowledged,
    /// The broker or the producer refused it permanently.
    #[error("the event was refused")]
    Failed,
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        Self::unavailable(
            "The request may not have been recorded: send it again, that does no harm.",
        )
        .because(error)
    }
}
