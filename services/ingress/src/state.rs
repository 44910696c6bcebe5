//! What handlers share.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::HttpRequest;
use tokio_util::sync::CancellationToken;

use crate::buyers::tokens::{Caller, Tokens};
use crate::gate::admission::Admission;
use crate::gate::limits::Limits;
use crate::gate::risk::Risk;
use crate::gate::sale_tokens::SaleTokens;
use crate::http::address::TrustedProxies;
use crate::http::body::Arriving;
use crate::http::problem::Problem;
use crate::http::trace::trace_of;
use crate::operators::auth::{ADMIN_REFUSED_TOTAL, Operator, Operators};
use crate::operators::operations::Operations;
use crate::orders::reservations::Reservations;
use crate::orders::streams::Streams;
use crate::payments::webhook::Webhook;
use crate::reads::Reads;
use crate::shop::pages::PaymentPage;
use crate::sign_in::SignIn;

/// What handlers share: one for the whole process.
pub struct App {
    /// Who is let in at all.
    pub admission: Admission,
    /// Whose bodies are on their way.
    pub arriving: Arriving,
    /// Takes orders and publishes events.
    pub reservations: Reservations,
    /// Answers questions.
    pub reads: Reads,
    /// What operators look at.
    pub operations: Operations,
    /// Who is a buyer.
    pub tokens: Tokens,
    /// Who has had a sale's page.
    pub sale_tokens: SaleTokens,
    /// How somebody becomes one.
    pub sign_in: SignIn,
    /// Who is an operator.
    pub operators: Operators,
    /// Who is the payment provider.
    pub webhook: Webhook,
    /// Where buyers pay; without it pages have no such button.
    pub payment_page: Option<PaymentPage>,
    /// How often somebody may order.
    pub limits: Limits,
    /// Whose orders are refused.
    pub risk: Risk,
    /// Whose word is taken for where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// Who waits for which order.
    pub streams: Streams,
    /// Ends all streams: they would hold a shutdown up for ever.
    pub stop_streams: CancellationToken,
    /// Whether the start has checked everything that orders depend on.
    pub started: AtomicBool,
}

impl App {
    /// Whether requests may be served.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The buyer whose token the request carries, if no operator has blocked them. If this request renews
    /// the token, the answer will carry the new one.
    ///
    /// # Errors
    /// `unauthorized`, `denied`.
    pub fn buyer(&self, http: &HttpRequest) -> Result<Caller, Problem> {
        let caller = self.tokens.caller(http.headers())?;
        self.risk.check_user(caller.user_id)?;
        self.tokens.renew(http, &caller)?;
        Ok(caller)
    }

    /// The operator whose token the request carries.
    ///
    /// # Errors
    /// `unauthorized` without such a token; it is counted, and logged with the address.
    pub fn operator(&self, http: &HttpRequest) -> Result<Operator, Problem> {
        self.operators.find(http.headers()).ok_or_else(|| {
            metrics::counter!(ADMIN_REFUSED_TOTAL).increment(1);
            let (trace, path) = (trace_of(http), http.path());
            let address = self.trusted_proxies.client(http);
            tracing::warn!(%trace, ?address, path, "a request without an admin token was refused");
            Problem::unauthorized("Send Authorization: Bearer with the admin token.")
        })
    }

    /// Whether what was begun for a caller may go on.
    #[must_use]
    pub fn is_still_welcome(&self, caller: &Caller) -> bool {
        self.tokens.is_still_good(caller) && self.risk.check_user(caller.user_id).is_ok()
    }

    /// Requests may be served from now on.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}
