//! The state that all handlers share.

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

/// The state that all handlers share. There is one for the whole process.
pub struct App {
    /// How many requests of each kind may be under way.
    pub admission: Admission,
    /// Counts request bodies that are still arriving, by client address.
    pub arriving: Arriving,
    /// Takes orders and publishes events.
    pub reservations: Reservations,
    /// Reads orders and vouchers for the API and the pages.
    pub reads: Reads,
    /// Reads lag, ledgers and timelines for operators.
    pub operations: Operations,
    /// Checks and renews buyers' session tokens.
    pub tokens: Tokens,
    /// Issues and checks sale tokens.
    pub sale_tokens: SaleTokens,
    /// Sign-in by e-mailed code.
    pub sign_in: SignIn,
    /// The operators and their tokens.
    pub operators: Operators,
    /// Checks the payment provider's signatures.
    pub webhook: Webhook,
    /// The URL of the payment page. Without it, pages show no button to pay.
    pub payment_page: Option<PaymentPage>,
    /// Rate limits on orders.
    pub limits: Limits,
    /// Operators' risk rules.
    pub risk: Risk,
    /// The proxies that are believed when they name a client's address.
    pub trusted_proxies: TrustedProxies,
    /// The open event streams.
    pub streams: Streams,
    /// Cancelled at shutdown: an event stream has no other end.
    pub stop_streams: CancellationToken,
    /// True once the start-up checks have passed.
    pub started: AtomicBool,
}

impl App {
    /// Whether the start-up checks have passed.
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

    /// Whether the caller's session still holds and no operator has blocked the caller.
    #[must_use]
    pub fn is_still_welcome(&self, caller: &Caller) -> bool {
        self.tokens.is_still_good(caller) && self.risk.check_user(caller.user_id).is_ok()
    }

    /// Notes that the start-up checks have passed: requests are served from now on.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}
