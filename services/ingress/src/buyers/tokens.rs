//! Buyers' tokens: those of our key are checked here, without asking anybody, and renewed by the rule of
//! [`seckill_identity::renew`]; others by [`crate::buyers::provider`], if there is one.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpRequest};
use seckill_credentials::token::{self, BuyerClaims, Keyring, demands};
use seckill_domain::{IdError, Timestamp, UserId};
use seckill_identity::{Level, Renewal, is_subject_number, renew};
use seckill_orderbook::EndedSessions;
use seckill_service::settings::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::buyers::provider::{Provider, Session};
use crate::buyers::revoked::Revoked;
use crate::http::problem::Problem;
use crate::http::request::bearer;
use crate::metrics;

/// For so long after sessions were ended, tokens of them may be about, or be made, by another issuer: only that one knows
/// how long a session of its own goes on.
const FOREIGN_LIFE: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// An instance that has not heard of it yet may renew a token of an ended session.
const RENEWED_LATE: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct MintedClaims {
    #[serde(flatten)]
    registered: BuyerClaims,
    #[serde(flatten)]
    session: SessionClaims,
}

/// What our sign-in adds. Tokens of another issuer lack it: they are good, and never renewed.
#[derive(Serialize)]
struct SessionClaims {
    /// The session: the same in all its tokens.
    sid: String,
    /// [`Level::number`].
    lvl: u8,
    /// Renewals so far.
    rnw: u32,
}

/// What is left to look at after the library has checked the registered claims.
#[derive(Deserialize)]
struct VerifiedClaims {
    sub: String,
    exp: u64,
    iat: Option<u64>,
    // Not flattened: that would copy every claim of every order's token first.
    sid: Option<String>,
    lvl: Option<u8>,
    rnw: Option<u32>,
}

/// Who calls, and in which session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub user_id: UserId,
    /// The session: that of the claims, or one of this very token only.
    pub session_id: Uuid,
    /// When the token was issued and when it expires, in seconds since 1970.
    issued_and_expires: (u64, u64),
    renewal: Option<Renewal>,
    /// Whether an identity provider makes more tokens of the session, for as long as it likes.
    is_renewed_elsewhere: bool,
}

/// A token with what its owner is told about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    pub token: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// The token that the answer to this request has to carry, among the request's extensions.
#[derive(Debug, Clone)]
pub struct RenewedToken(pub String);

/// Checks and issues buyers' tokens: [`demands`] holds, and the session is not signed out.
pub struct Tokens {
    keys: Keyring,
    life: Duration,
    revoked: Revoked,
    provider: Option<Provider>,
}

impl Tokens {
    /// `secret` is the key that tokens are signed with, `previous` another that is good, too, `life` how
    /// long a new token is good, `revoked` the sessions that are not.
    #[must_use]
    pub fn new(
        secret: &Secret,
        previous: Option<&Secret>,
        life: Duration,
        revoked: Revoked,
    ) -> Self {
        let previous = previous.map(|secret| secret.expose().as_bytes());
        Self {
            keys: Keyring::new(secret.expose().as_bytes(), previous, demands()),
            life,
            revoked,
            provider: None,
        }
    }

    /// Takes tokens of an identity provider, too.
    #[must_use]
    pub fn and_of(mut self, provider: Option<Provider>) -> Self {
        self.provider = provider;
        self
    }

    /// The identity provider whose tokens are taken, too.
    #[must_use]
    pub const fn provider(&self) -> Option<&Provider> {
        self.provider.as_ref()
    }

    /// The buyer whose token the request carries. If this request renews it, the answer will carry
    /// the new one.
    ///
    /// # Errors
    /// `unauthorized` without a token, or with one that is not good; `unavailable` when that of an identity provider
    /// cannot be checked, or whose it is.
    pub async fn authenticate(&self, request: &HttpRequest) -> Result<UserId, Problem> {
        let caller = self.caller(request.headers()).await?;
        self.renew(request, &caller)?;
        Ok(caller.user_id)
    }

    /// Renews the caller's token if this request does so: then the answer will carry the new one.
    ///
    /// # Errors
    /// `internal` when it cannot be signed.
    pub fn renew(&self, request: &HttpRequest, caller: &Caller) -> Result<(), Problem> {
        if let Some(renewed) = self.renewed(caller, unix_seconds())? {
            request.extensions_mut().insert(RenewedToken(renewed));
        }
        Ok(())
    }

    /// Whether a token that was good still is: it has not expired, and its session is not over.
    #[must_use]
    pub fn is_still_good(&self, caller: &Caller) -> bool {
        !caller.has_expired() && !self.is_over(caller)
    }

    fn is_over(&self, caller: &Caller) -> bool {
        let began = || caller.began();
        self.revoked
            .contains(caller.session_id, caller.user_id, began)
    }

    /// Who calls; renews nothing.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = self.caller_to_sign_out(headers).await?;
        if self.is_over(&caller) {
            return Err(Problem::unauthorized(
                "This session was signed out: sign in again.",
            ));
        }
        Ok(caller)
    }

    /// As [`Self::caller`], also of a session that was signed out: doing it again is no mistake.
    ///
    /// # Errors
    /// As [`Self::authenticate`].
    pub async fn caller_to_sign_out(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let refused = || {
            Problem::unauthorized(
                "Send Authorization: Bearer with a token from the sign-in that has not expired.",
            )
        };
        let token = bearer(headers).ok_or_else(refused)?;
        let claims: VerifiedClaims = match (self.keys.check(token), &self.provider) {
            (Ok(claims), _) => claims,
            // No key of ours is for such a token, and so its signature was not looked at.
            (Err(error), Some(provider)) if token::is_of_another_algorithm(&error) => {
                return Ok(provider.caller(token).await?);
            }
            (Err(error), _) => return Err(refused().because(error)),
        };
        let caller = caller(token, &claims).map_err(|error| refused().because(error))?;
        if self.provider.is_some() && is_subject_number(caller.user_id.get()) {
            return Err(refused().because("only the identity provider speaks for its users"));
        }
        Ok(caller)
    }

    /// The first token of a new session.
    ///
    /// # Errors
    /// `internal` when it cannot be signed.
    pub fn sign_in(&self, user_id: UserId) -> Result<Issued, Problem> {
        // It says when the session began, and renewed tokens have it, too.
        self.issue(user_id, Uuid::now_v7(), Renewal::SIGNED_IN, unix_seconds())
    }

    /// Ends a session here. Gives the time after which none of its tokens can be good: another
    /// instance may renew one until it has heard of this, and what it renews lives a whole life.
    #[must_use]
    pub fn revoke(&self, caller: &Caller) -> Timestamp {
        let (issued, expires) = caller.issued_and_expires;
        let life_s = self.life.as_secs().max(expires.saturating_sub(issued));
        let go_on_s = if caller.is_renewed_elsewhere {
            FOREIGN_LIFE.as_secs()
        } else {
            2 * life_s
        };
        let expires_at = timestamp(unix_seconds().max(expires).saturating_add(go_on_s));
        self.revoked.insert(caller.session_id, expires_at);
        expires_at
    }

    /// Ends all sessions of the caller here that have begun so far.
    #[must_use]
    pub fn revoke_all(&self, caller: &Caller) -> EndedSessions {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = micros(now.unwrap_or_default());
        let good_for = FOREIGN_LIFE.max(2 * self.life);
        let ended = EndedSessions {
            user_id: caller.user_id,
            // Another instance's clock may be ahead.
            up_to: now.max(caller.began()),
            expires_at: timestamp(unix_seconds().saturating_add(good_for.as_secs())),
        };
        self.revoked.insert_all(ended);
        ended
    }

    fn renewed(&self, caller: &Caller, now: u64) -> Result<Option<String>, Problem> {
        let (issued, expires) = caller.issued_and_expires;
        let remaining = Duration::from_secs(expires.saturating_sub(now));
        let life = Duration::from_secs(expires.saturating_sub(issued));
        let renewed = caller
            .renewal
            .and_then(|renewal| renew(renewal, remaining, life));
        renewed
            .map(|renewal| {
                let issued = self.issue(caller.user_id, caller.session_id, renewal, now)?;
                metrics::TOKEN_RENEWALS.only().increment(1);
                Ok(issued.token)
            })
            .transpose()
    }

    fn issue(
        &self,
        user_id: UserId,
        session_id: Uuid,
        renewal: Renewal,
        now: u64,
    ) -> Result<Issued, Problem> {
        let session = SessionClaims {
            sid: session_id.simple().to_string(),
            lvl: renewal.level.number(),
            rnw: renewal.count,
        };
        let claims = MintedClaims {
            registered: BuyerClaims::new(user_id, now, self.life),
            session,
        };
        Ok(Issued {
            token: self.keys.sign(&claims).map_err(Problem::internal)?,
            expires_at: timestamp(claims.registered.exp),
        })
    }
}

impl Caller {
    /// Somebody with a token of an identity provider. Without a session of its own it is one by itself.
    pub(super) fn of_provider(user_id: UserId, token: &str, session: &Session) -> Self {
        Self {
            user_id,
            // Hashed, whatever it looks like: only a session of ours says in its name when it began.
            session_id: hashed(session.name.as_deref().unwrap_or(token)),
            issued_and_expires: (session.began, session.expires),
            renewal: None,
            is_renewed_elsewhere: session.name.is_some(),
        }
    }

    /// Whether the token is no longer good.
    pub(super) fn has_expired(&self) -> bool {
        let (_, expires) = self.issued_and_expires;
        unix_seconds() >= expires
    }

    /// When the session began. Where only its token says something about that: when that was issued, or
    /// before, as far as one of an ended session may have been renewed.
    fn began(&self) -> Timestamp {
        let begun = self.session_id.get_timestamp();
        let of_session = (self.session_id.get_version_num() == 7).then_some(begun);
        if let Some(begun) = of_session.flatten() {
            let (seconds, nanos) = begun.to_unix();
            return micros(Duration::new(seconds, nanos));
        }
        let (issued, _) = self.issued_and_expires;
        let late = self.renewal.map_or(0, |_| RENEWED_LATE.as_secs());
        timestamp(issued.saturating_sub(late))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// A token of `user` outside any session, good for `ttl` from now: it is never renewed.
///
/// # Errors
/// When the token cannot be signed.
pub fn mint(secret: &Secret, user: UserId, ttl: Duration) -> anyhow::Result<String> {
    let claims = BuyerClaims::new(user, unix_seconds(), ttl);
    Ok(token::sign(secret.expose(), &claims)?)
}

fn caller(token: &str, claims: &VerifiedClaims) -> Result<Caller, IdError> {
    let session_id = match &claims.sid {
        // Another issuer's `sid` may be any text.
        Some(sid) => Uuid::try_parse(sid).unwrap_or_else(|_| hashed(sid)),
        // A token without a session can be signed out, too: it is one by itself.
        None => hashed(token),
    };
    let renewal = claims.lvl.zip(claims.rnw).map(|(level, count)| Renewal {
        level: Level::from_number(level),
        count,
    });
    Ok(Caller {
        user_id: claims.sub.parse()?,
        session_id,
        issued_and_expires: (claims.iat.unwrap_or(claims.exp), claims.exp),
        renewal,
        is_renewed_elsewhere: false,
    })
}

fn hashed(text: &str) -> Uuid {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(text.as_bytes())[..16]);
    Uuid::new_v8(first)
}

fn unix_seconds() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs()
}

fn timestamp(unix_seconds: u64) -> Timestamp {
    micros(Duration::from_secs(unix_seconds))
}

fn micros(since_1970: Duration) -> Timestamp {
    Timestamp::from_micros(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
