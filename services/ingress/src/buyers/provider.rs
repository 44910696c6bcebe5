//! Buyers whom an identity provider names.

use std::sync::Arc;

use moka::{future, sync};
use seckill_credentials::issued::{Claims, Keys, LEEWAY_SECONDS};
use seckill_domain::UserId;
use seckill_identity::Subject;
use seckill_orderbook::Orderbook;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::buyers::tokens::Caller;
use crate::http::problem::Problem;
use crate::issuer::{Issuer, NotVerified};

/// To check a signature costs as much as all the rest of an order: who repeats a request does not cost it again.
const TOKENS_MAX: u64 = 100_000;
/// Of so many is known which user they are, whatever token they have: also while PostgreSQL is away.
const USERS_MAX: u64 = 200_000;

/// The provider that names buyers.
pub struct Provider {
    issuer: Issuer,
    users: Users,
    /// By the SHA-256 of the token.
    checked: sync::Cache<[u8; 32], Checked>,
}

/// A token that was good under these keys.
#[derive(Clone)]
struct Checked {
    keys: Arc<Keys>,
    caller: Caller,
}

/// Why nobody is known by a token.
#[derive(Debug)]
pub enum NoBuyer {
    /// The token is not good, or that cannot be known now.
    NotVerified(NotVerified),
    /// PostgreSQL does not say which user it is.
    Users(String),
}

impl Provider {
    /// Users are looked up in `orderbook`, on `runtime`.
    #[must_use]
    pub fn new(issuer: Issuer, orderbook: Orderbook, runtime: Handle) -> Self {
        let known = future::Cache::new(USERS_MAX);
        Self {
            issuer,
            users: Users {
                orderbook,
                runtime,
                known,
            },
            checked: sync::Cache::new(TOKENS_MAX),
        }
    }

    /// Whose tokens are checked.
    #[must_use]
    pub fn issuer(&self) -> Issuer {
        self.issuer.clone()
    }

    /// Whose token it is; its session may be over.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub(super) async fn caller(&self, token: &str) -> Result<Caller, NoBuyer> {
        // Before it is checked: a key that is taken back meanwhile must not count for long.
        let keys = self.issuer.keys();
        let digest = Sha256::digest(token).into();
        if let Some(known) = self.checked.get(&digest)
            && Arc::ptr_eq(&known.keys, &keys)
            && !known.caller.has_expired()
        {
            return Ok(known.caller);
        }
        let claims = self.issuer.verify(token).await;
        let claims = claims.map_err(NoBuyer::NotVerified)?;
        let session =
            Session::of(&claims, self.issuer.url()).ok_or_else(|| refused(&"it has no exp"))?;
        let sub = claims.get("sub").and_then(Value::as_str);
        let user_id = self.users.find(self.issuer.url(), sub.unwrap_or_default());
        let caller = Caller::of_provider(user_id.await?, token, &session);
        let checked = Checked {
            keys,
            caller: caller.clone(),
        };
        self.checked.insert(digest, checked);
        Ok(caller)
    }
}

fn refused(why: &impl ToString) -> NoBuyer {
    NoBuyer::NotVerified(NotVerified::Refused(why.to_string()))
}

/// What a token says about the session that it is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The provider's name for it, with the provider: another's may be the same.
    pub(super) name: Option<String>,
    /// When somebody signed in, else when the token was issued; in seconds since 1970.
    pub(super) began: u64,
    /// Until when the token is good.
    pub(super) expires: u64,
}

impl Session {
    fn of(claims: &Claims, issuer: &str) -> Option<Self> {
        let expires = seconds(claims, "exp")?;
        let sid = claims.get("sid").and_then(Value::as_str);
        let began = seconds(claims, "auth_time").or_else(|| seconds(claims, "iat"));
        Some(Self {
            name: sid.map(|sid| format!("{issuer}\n{sid}")),
            began: began.unwrap_or(expires),
            // As the check of the token has it.
            expires: expires.saturating_add(LEEWAY_SECONDS),
        })
    }
}

/// A time, which may have a fraction.
fn seconds(claims: &Claims, name: &str) -> Option<u64> {
    let value = claims.get(name)?;
    let whole = || value.as_f64().filter(|time| *time >= 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and what is too large becomes the largest"
    )]
    value.as_u64().or_else(|| whole().map(|time| time as u64))
}

/// Which user a `sub` is. Cheap to clone.
#[derive(Clone)]
struct Users {
    orderbook: Orderbook,
    runtime: Handle,
    /// A row is never changed, and comes back the same when it was lost: what is known stays right.
    known: future::Cache<String, UserId>,
}

impl Users {
    /// PostgreSQL is asked once for a `sub`, however many ask at once.
    async fn find(&self, issuer: &str, sub: &str) -> Result<UserId, NoBuyer> {
        if let Some(user) = self.known.get(sub).await {
            return Ok(user);
        }
        let subject = Subject::new(issuer, sub).map_err(|error| refused(&error))?;
        let users = self.clone();
        let asked = self.runtime.spawn(async move {
            let ask = users.orderbook.user_of_subject(&subject);
            let found = users.known.try_get_with(subject.sub().to_owned(), ask);
            found.await.map_err(|error| error.to_string())
        });
        let found = asked.await.unwrap_or_else(|error| Err(error.to_string()));
        found.map_err(NoBuyer::Users)
    }
}

impl From<NoBuyer> for Problem {
    fn from(none: NoBuyer) -> Self {
        match none {
            NoBuyer::NotVerified(NotVerified::Refused(why)) => {
                Self::unauthorized("Send Authorization: Bearer with a token that is good.")
                    .because(why)
            }
            NoBuyer::NotVerified(NotVerified::Away(why)) => {
                Self::unavailable("The identity provider does not answer: try again in a moment.")
                    .because(why)
            }
            NoBuyer::Users(why) => Self::unavailable(
                "Who you are cannot be looked up right now: try again in a moment.",
            )
            .because(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_session_begins_when_somebody_signed_in_and_is_one_providers() {
        let of = |claims: Value| Session::of(claims.as_object().unwrap(), "https://a.example");
        let session = of(json!({ "exp": 100, "iat": 70, "auth_time": 40, "sid": "7" })).unwrap();
        assert_eq!(session.name.as_deref(), Some("https://a.example\n7"));
        assert_eq!((session.began, session.expires), (40, 100 + LEEWAY_SECONDS));
        for (claims, began) in [
            (json!({ "exp": 100, "iat": 70 }), Some(70)),
            (json!({ "exp": 100, "iat": 70.9 }), Some(70)),
            (json!({ "exp": 100, "iat": -1 }), Some(100)),
            (json!({ "exp": 100, "auth_time": "40" }), Some(100)),
            (json!({ "exp": "100" }), None),
            (json!({}), None),
        ] {
            let session = of(claims.clone());
            assert_eq!(
                session.as_ref().map(|session| session.began),
                began,
                "{claims}"
            );
            assert!(session.is_none_or(|session| session.name.is_none()));
        }
    }
}
