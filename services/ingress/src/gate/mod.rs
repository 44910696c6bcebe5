//! The checks that a request passes before it is served: places, rate limits, risk rules, sale tokens.

pub mod admission;
pub mod limits;
pub mod risk;
pub mod sale_tokens;

use actix_web::HttpRequest;

use self::admission::Admission;
use self::limits::{Limits, Standing};
use self::risk::{Origin, Risk};
use self::sale_tokens::{PageProof, SaleTokens};
use crate::buyers::tokens::{Caller, Tokens};
use crate::http::address::TrustedProxies;
use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::request;
use crate::http::trace::trace_of;

/// Everything that a request is checked against before it is served.
pub struct Gate {
    /// How many requests of each kind may be under way.
    pub admission: Admission,
    /// Rate limits on orders.
    pub limits: Limits,
    /// Operators' risk rules.
    pub risk: Risk,
    /// Checks and renews buyers' session tokens.
    pub tokens: Tokens,
    /// Issues and checks sale tokens.
    pub sale_tokens: SaleTokens,
    /// The proxies that are believed when they name a client's address.
    pub trusted_proxies: TrustedProxies,
}

/// An order that was admitted.
pub struct Admitted {
    /// The buyer, the sale, and the client's address.
    pub origin: Origin,
    /// Whether it came with a valid sale token.
    pub proof: PageProof,
}

impl Gate {
    /// Every check of an order that needs neither its body nor a store: the limit of its address, its token, the
    /// limit of its buyer, the operators' rules, and last the limits that all buyers share, those of the sale and of
    /// all sales. An order that an earlier check refuses takes nothing of the shared limits. Only a token of an
    /// identity provider that is new here waits for an answer from elsewhere.
    ///
    /// `standing` is what the caller has left of the limits, also where a later check refuses the order.
    ///
    /// # Errors
    /// `rate-limited`, `unauthorized`, `unavailable` as [`Tokens::authenticate`], `invalid-request`, `not-found`, `denied`.
    pub async fn admit(
        &self,
        http: &HttpRequest,
        standing: &mut Standing,
    ) -> Result<Admitted, Problem> {
        let address = self.trusted_proxies.client(http);
        // This comes first, even before the token's signature is computed.
        *standing = self.limits.admit_address(address)?;
        let user = self.tokens.authenticate(http).await?;
        let voucher = request::voucher_id(http)?;
        self.limits.admit_user(user, standing)?;
        let origin = Origin {
            user,
            voucher,
            address,
            claimed: address.or_else(|| self.trusted_proxies.claimed(http)),
            trace: trace_of(http),
        };
        let now = timestamp_now();
        let proof = self.sale_tokens.proof(http.headers(), user, voucher, now);
        self.risk.admit(origin, proof)?;
        self.limits.admit_sale(voucher, standing)?;
        Ok(Admitted { origin, proof })
    }

    /// The buyer whose token the request carries, if no operator has blocked them. If this request renews
    /// the token, the answer will carry the new one.
    ///
    /// # Errors
    /// `unauthorized`, `unavailable` as [`Tokens::authenticate`], `denied`.
    pub async fn buyer(&self, http: &HttpRequest) -> Result<Caller, Problem> {
        let caller = self.tokens.caller(http.headers()).await?;
        self.risk.check_user(caller.user_id)?;
        self.tokens.renew(http, &caller)?;
        Ok(caller)
    }

    /// Whether the caller's session is still valid and no operator has blocked the caller.
    #[must_use]
    pub fn is_still_welcome(&self, caller: &Caller) -> bool {
        self.tokens.is_still_good(caller) && self.risk.check_user(caller.user_id).is_ok()
    }
}
