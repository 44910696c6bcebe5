//! Who an operator is, and where a request carries its token.

use std::fmt;
use std::str::FromStr;

use actix_web::http::header::HeaderMap;
use seckill_domain::Actor;
use seckill_service::settings::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::http::request::bearer;

/// A token shorter than this can be guessed.
const TOKEN_MIN_BYTES: usize = 32;

/// Tokens of single operators, each with its owner's name.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NamedTokens(Vec<(Actor, Secret)>);

/// What was read is no list of names and tokens. The text is not quoted: it may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamedTokensError {
    /// No `name=token`.
    #[error("is no list like kim=TOKEN,lee=TOKEN with names of one line")]
    NoList,
    /// A token can be guessed.
    #[error("has a token of less than {TOKEN_MIN_BYTES} bytes")]
    Short,
    /// A name or a token is there twice.
    #[error("has a name or a token twice")]
    Twice,
}

impl FromStr for NamedTokens {
    type Err = NamedTokensError;

    fn from_str(text: &str) -> Result<Self, NamedTokensError> {
        let mut named: Vec<(Actor, Secret)> = Vec::new();
        for pair in text.split(',') {
            let (name, token) = pair.split_once('=').ok_or(NamedTokensError::NoList)?;
            let name = Actor::written(name).map_err(|_| NamedTokensError::NoList)?;
            let token = token.trim();
            if token.len() < TOKEN_MIN_BYTES {
                return Err(NamedTokensError::Short);
            }
            let token = Secret::new(token);
            if named.iter().any(|(n, t)| *n == name || *t == token) {
                return Err(NamedTokensError::Twice);
            }
            named.push((name, token));
        }
        Ok(Self(named))
    }
}

/// Names alone.
impl fmt::Debug for NamedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Whoever may act as an operator.
#[derive(Debug)]
pub struct Operators {
    shared: Secret,
    named: NamedTokens,
}

/// An operator who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Whose token it is; none of the one that all share.
    pub name: Option<Actor>,
}

impl Operators {
    /// Those with the token that all share, and those with one of their own.
    #[must_use]
    pub const fn new(shared: Secret, named: NamedTokens) -> Self {
        Self { shared, named }
    }

    /// Whose token the request carries.
    #[must_use]
    pub fn find(&self, headers: &HeaderMap) -> Option<Operator> {
        // Hashes have one length, so that the comparison's time says nothing about the token. All are
        // compared, whichever it is.
        let digest = |text: &str| Sha256::digest(text.as_bytes());
        let given = digest(bearer(headers).unwrap_or_default());
        let is = |token: &Secret| bool::from(given.ct_eq(&digest(token.expose())));
        let mut found = is(&self.shared).then_some(Operator { name: None });
        for (name, token) in &self.named.0 {
            if is(token) {
                found = Some(Operator {
                    name: Some(name.clone()),
                });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{AUTHORIZATION, HeaderValue};

    const SHARED: &str = "a secret for tests only";
    const KIMS: &str = "0123456789abcdef0123456789abcdef=";

    fn operators() -> Operators {
        let named = format!("kim={KIMS},lee=fedcba9876543210fedcba9876543210");
        Operators::new(Secret::new(SHARED), named.parse().unwrap())
    }

    fn found(authorization: &str) -> Option<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        let found = operators().find(&headers)?;
        Some(found.name.map(|name| name.to_string()))
    }

    #[test]
    fn a_token_is_compared_as_a_whole_and_says_whose_it_is() {
        assert_eq!(found(&format!("Bearer {SHARED}")), Some(None));
        assert_eq!(
            found(&format!("bearer {KIMS}")),
            Some(Some("kim".to_owned()))
        );
        for wrong in [
            "Bearer a secret",
            "Bearer ",
            "Basic a secret for tests only",
            "Bearer kim",
            "Bearer kim=0123456789abcdef0123456789abcdef=",
            "Bearer 0123456789abcdef0123456789abcdef",
        ] {
            assert_eq!(found(wrong), None, "{wrong}");
        }
        assert_eq!(operators().find(&HeaderMap::new()), None);
    }

    #[test]
    fn a_list_that_cannot_be_used_is_refused_and_none_is_printed() {
        for (text, error) in [
            ("", NamedTokensError::NoList),
            ("0123456789abcdef0123456789abcdef", NamedTokensError::NoList),
            (
                "=0123456789abcdef0123456789abcdef",
                NamedTokensError::NoList,
            ),
            ("kim=short", NamedTokensError::Short),
            (
                "kim=0123456789abcdef0123456789abcdef,",
                NamedTokensError::NoList,
            ),
            (
                "kim=0123456789abcdef0123456789abcdef,kim=fedcba9876543210fedcba9876543210",
                NamedTokensError::Twice,
            ),
            (
                "kim=0123456789abcdef0123456789abcdef,lee=0123456789abcdef0123456789abcdef",
                NamedTokensError::Twice,
            ),
        ] {
            assert_eq!(text.parse::<NamedTokens>(), Err(error), "{text:?}");
            assert!(!error.to_string().contains("0123"));
        }
        let printed = format!("{:?}", operators());
        assert!(
            printed.contains("kim") && !printed.contains("0123"),
            "{printed}"
        );
    }
}
