//! The operators' API and page.

pub mod api;
pub mod auth;
mod change;
mod members;
pub mod operations;
pub mod page;
pub mod pulse;
pub mod role;
mod stock_request;
pub mod terms;

use std::sync::Arc;

use actix_web::HttpRequest;

use self::auth::{Operator, Operators};
use self::operations::Operations;
use self::pulse::Slots;
use self::role::Action;
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
    /// The operator whose token the request carries, if they may do it.
    ///
    /// # Errors
    /// `unauthorized` without such a token, `forbidden` when their role is not enough; it is counted, and logged
    /// with the address.
    pub fn operator(&self, http: &HttpRequest, action: Action) -> Result<Operator, Problem> {
        let Some(operator) = self.operators.find(http.headers()) else {
            self.refused(http, "a request without an admin token was refused");
            return Err(Problem::unauthorized(
                "Send Authorization: Bearer with the admin token.",
            ));
        };
        if operator.role.may(action) {
            return Ok(operator);
        }
        self.refused(http, "an operator may not do what was asked for");
        Err(Problem::forbidden(match action {
            Action::Read => "Ask an admin for the role viewer.",
            Action::Act => "Ask an admin for the role operator.",
            Action::PutUp => "Only an admin puts a sale up: ask one.",
        }))
    }

    fn refused(&self, http: &HttpRequest, why: &'static str) {
        metrics::ADMIN_REFUSED.only().increment(1);
        let (trace, path) = (trace_of(http), http.path());
        let address = self.gate.trusted_proxies.client(http);
        tracing::warn!(%trace, ?address, path, "{why}");
    }
}
