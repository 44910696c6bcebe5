//! The payment provider's calls and their signatures.

pub mod api;
mod seldom;
pub mod webhook;

use std::sync::Arc;

use self::webhook::Webhook;
use crate::gate::Gate;
use crate::orders::reservations::Reservations;
use crate::reads::Reads;

/// The state of the handlers of payments.
pub struct Payments {
    /// Limits how many calls may be under way.
    pub gate: Arc<Gate>,
    /// Checks the payment provider's signatures.
    pub webhook: Webhook,
    /// Publishes events.
    pub reservations: Reservations,
    /// Reads the order that a payment id was used for.
    pub reads: Reads,
}
