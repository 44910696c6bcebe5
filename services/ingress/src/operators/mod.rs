//! The operators' API and page.

pub mod api;
pub mod auth;
mod change;
mod members;
pub mod operations;
pub mod page;
pub mod pulse;
mod stock_request;
pub mod terms;

use std::sync::Arc;

use actix_web::HttpRequest;

use self::auth::{Operator, Operators};
use self::operations::Operations;
use self::pulse::Slots;
use crate::gate::Gate;
use crate::http::problem::Problem;
use crate::http::trace::trace_of;
use crate::metrics;
use crate::orders::reservations::Reservations;
use crate::reads::Reads;

/// The state of the handlers of the operators' API.
pub struct Admin {
    /// Knows the proxies that are believed when they name a client's address.
    pub gate: Arc<Gate>,
    /// The operators and their tokens.
    pub operators: Operators,
    /// Reads lag and timelines.
    pub operations: Operations,
    /// The last ten minutes of all instances.
    pub slots: Slots,
    /// Takes units back and publishes events.
    pub reservations: Reservations,
    /// Reads sales and ledgers.
    pub reads: Reads,
}

impl Admin {
    /// The operator whose token the request carries.
    ///
    /// # Errors
    /// `unauthorized` without such a token; it is counted, and logged with the address.
    pub fn operator(&self, http: &HttpRequest) -> Result<Operator, Problem> {
        self.operators.find(http.headers()).ok_or_else(|| {
            metrics::ADMIN_REFUSED.only().increment(1);
            let (trace, path) = (trace_of(http), http.path());
            let address = self.gate.trusted_proxies.client(http);
            tracing::warn!(%trace, ?address, path, "a request without an admin token was refused");
            Problem::unauthorized("Send Authorization: Bearer with the admin token.")
        })
    }
}
