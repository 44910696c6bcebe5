//! The operators' API and page.

pub mod api;
pub mod audit;
pub mod auth;
mod change;
pub mod findings;
pub mod letters;
mod members;
pub mod operations;
pub mod page;
pub mod provider;
pub mod pulse;
pub mod report;
pub mod role;
pub mod search;
mod stock_request;
pub mod terms;
pub mod who;

use std::sync::Arc;

use actix_web::HttpRequest;

use self::auth::{Operator, Operators};
use self::operations::Operations;
use self::provider::{NoOperator, Provider};
use self::pulse::Slots;
use self::role::Action;
use crate::gate::Gate;
use crate::http::problem::Problem;
use crate::http::request::bearer;
use crate::http::trace::trace_of;
use crate::issuer::NotVerified;
use crate::metrics;
use crate::orders::reservations::Reservations;
use crate::reads::Reads;

/// The state of the handlers of the operators' API.
pub struct Admin {
    /// Knows the trusted proxies, which may name a client's address.
    pub gate: Arc<Gate>,
    /// The operators and their tokens.
    pub operators: Operators,
    /// The identity provider of operators, if there is one.
    pub provider: Option<Provider>,
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
    /// The operator whose token the request has, if their role allows the action.
    ///
    /// # Errors
    /// `unauthorized` without a valid token, and `forbidden` if the role does not allow the action. Both are counted,
    /// and logged with the address. `unavailable` if the identity provider is needed to check the token and does not
    /// answer.
    pub async fn operator(&self, http: &HttpRequest, action: Action) -> Result<Operator, Problem> {
        let operator = match self.operators.find(http.headers()) {
            Some(operator) => operator,
            None => self.provided(http).await?,
        };
        if operator.role.may(action) {
            return Ok(operator);
        }
        self.refused(
            http,
            "an operator may not do what was asked for",
            "their role",
        );
        Err(Problem::forbidden(match action {
            Action::Read => "Ask an admin for the role viewer.",
            Action::Act => "Ask an admin for the role operator.",
            Action::PutUp => "Only an admin puts a sale up: ask one.",
        }))
    }

    async fn provided(&self, http: &HttpRequest) -> Result<Operator, Problem> {
        let found = match (&self.provider, bearer(http.headers())) {
            (Some(provider), Some(token)) => provider.find(token).await,
            _ => Err(NoOperator::NotVerified(NotVerified::Refused(String::new()))),
        };
        found.map_err(|none| match none {
            NoOperator::NotVerified(NotVerified::Refused(why)) => {
                self.refused(http, "a request without an admin token was refused", &why);
                Problem::unauthorized(
                    "Send Authorization: Bearer with an operator's token that is good.",
                )
            }
            NoOperator::NotVerified(NotVerified::Away(why)) => Problem::unavailable(
                "The identity provider does not answer: try again in a moment.",
            )
            .because(why),
            NoOperator::NoRole => {
                self.refused(http, "an operator may not do what was asked for", "no role");
                Problem::forbidden("Ask who manages the identity provider for a role.")
            }
        })
    }

    fn refused(&self, http: &HttpRequest, what: &'static str, why: &str) {
        metrics::ADMIN_REFUSED.only().increment(1);
        let (trace, path) = (trace_of(http), http.path());
        let address = self.gate.trusted_proxies.client(http);
        tracing::warn!(%trace, ?address, path, why, "{what}");
    }
}
