//! A buyer's orders: placing, cancelling, status and event stream.

pub mod cancel;
pub mod outcomes;
pub mod place;
pub mod representation;
pub mod reservations;
pub mod sse;
pub mod status;
pub mod streams;

use std::sync::Arc;

use self::reservations::Reservations;
use self::streams::Streams;
use crate::gate::Gate;
use crate::reads::Reads;

/// The state of the handlers of orders.
pub struct Orders {
    /// Checks the caller.
    pub gate: Arc<Gate>,
    /// Takes orders and publishes events.
    pub reservations: Reservations,
    /// Reads orders and sales.
    pub reads: Reads,
    /// The open event streams.
    pub streams: Streams,
}
