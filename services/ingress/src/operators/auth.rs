//! Finds the operator whose token a request has.

use std::fmt;
use std::str::FromStr;

use actix_web::http::header::HeaderMap;
use seckill_domain::Actor;
use seckill_service::settings::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::http::request::bearer;
use crate::operators::role::Role;

/// A token shorter than this can be guessed.
const TOKEN_MIN_BYTES: usize = 32;

/// The prefix of a token's SHA-256 in the setting.
const HASHED: &str = "sha256:";

type Digested = [u8; 32];

/// Tokens of single operators, each with its owner's name and role. Only the hashes of tokens are stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct NamedTokens(Vec<Named>);

#[derive(Clone, PartialEq, Eq)]
struct Named {
    operator: Operator,
    digest: Digested,
}

/// The text is not a valid list of names and tokens. The error does not quote it, because it may contain a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamedTokensError {
    /// An item is not `name=token`.
    #[error("is no list like kim=TOKEN,lee:viewer=sha256:HASH with names of one line")]
    NoList,
    /// The text after a name is not one of the roles.
    #[error("has after a colon something else than viewer, operator or admin")]
    NoRole,
    /// The text after `sha256:` is not a hash.
    #[error("has a hash that is not 64 hexadecimal digits")]
    NoHash,
    /// A token is so short that it can be guessed.
    #[error("has a token of less than {TOKEN_MIN_BYTES} bytes")]
    Short,
    /// A name or a token occurs twice.
    #[error("has a name or a token twice")]
    Twice,
}

impl FromStr for NamedTokens {
    type Err = NamedTokensError;

    /// Pairs are separated by commas or by lines.
    fn from_str(text: &str) -> Result<Self, NamedTokensError> {
        let mut all: Vec<Named> = Vec::new();
        for pair in text.trim_end_matches('\n').split([',', '\n']) {
            let named = Named::read(pair)?;
            let is_same =
                |n: &Named| n.operator.name == named.operator.name || n.digest == named.digest;
            if all.iter().any(is_same) {
                return Err(NamedTokensError::Twice);
            }
            all.push(named);
        }
        Ok(Self(all))
    }
}

impl Named {
    fn read(pair: &str) -> Result<Self, NamedTokensError> {
        let (owner, token) = pair.split_once('=').ok_or(NamedTokensError::NoList)?;
        // A misspelt role must not become a part of the name, because an operator without a role may do everything.
        let (name, role) = match owner.split_once(':') {
            None => (owner, Role::Admin),
            Some((name, role)) => {
                let role = role.trim().parse().map_err(|_| NamedTokensError::NoRole)?;
                (name, role)
            }
        };
        let name = Actor::written(name).map_err(|_| NamedTokensError::NoList)?;
        let operator = Operator {
            name: Some(name),
            role,
        };
        let token = token.trim();
        let digest = if let Some(hash) = token.strip_prefix(HASHED) {
            let mut digest = Digested::default();
            hex::decode_to_slice(hash, &mut digest).map_err(|_| NamedTokensError::NoHash)?;
            digest
        } else if token.len() < TOKEN_MIN_BYTES {
            return Err(NamedTokensError::Short);
        } else {
            Sha256::digest(token).into()
        };
        Ok(Self { operator, digest })
    }
}

/// Shows only names and roles.
impl fmt::Debug for NamedTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|named| &named.operator))
            .finish()
    }
}

/// All operators with their tokens.
#[derive(Debug)]
pub struct Operators {
    shared: Secret,
    named: NamedTokens,
}

/// The operator who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// The name of the token's owner. None for the shared token.
    pub name: Option<Actor>,
    /// What they may do.
    pub role: Role,
}

impl Operators {
    /// Operators with the shared token, and those with their own tokens.
    #[must_use]
    pub const fn new(shared: Secret, named: NamedTokens) -> Self {
        Self { shared, named }
    }

    /// The operator whose token the request has.
    #[must_use]
    pub fn find(&self, headers: &HeaderMap) -> Option<Operator> {
        // All hashes have the same length and all of them are compared, so that the time of the comparison reveals
        // nothing about the token.
        let given = Sha256::digest(bearer(headers).unwrap_or_default());
        let is = |digest: &[u8]| bool::from(given.ct_eq(digest));
        let shared = Sha256::digest(self.shared.expose());
        let mut found = is(&shared).then_some(Operator {
            name: None,
            role: Role::Admin,
        });
        for named in &self.named.0 {
            if is(&named.digest) {
                found = Some(named.operator.clone());
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
    fn a_file_of_hashed_tokens_names_each_ones_owner_and_role() {
        let hash = hex::encode(Sha256::digest(KIMS));
        let file =
            format!("kim:viewer=sha256:{hash}\nlee : operator=fedcba9876543210fedcba9876543210\n");
        let operators = Operators::new(Secret::new(SHARED), file.parse().unwrap());
        let found = |token: &str| {
            let mut headers = HeaderMap::new();
            let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            headers.insert(AUTHORIZATION, value);
            let found = operators.find(&headers);
            found.map(|found| (found.name.unwrap_or_default().to_string(), found.role))
        };
        assert_eq!(found(KIMS), Some(("kim".to_owned(), Role::Viewer)));
        let lees = "fedcba9876543210fedcba9876543210";
        assert_eq!(found(lees), Some(("lee".to_owned(), Role::Operator)));
        assert_eq!(found(SHARED), Some((String::new(), Role::Admin)));
        assert_eq!(found(&hash), None, "a hash is no token");
        assert_eq!(found(&format!("sha256:{hash}")), None);
        let twice = format!("kim=sha256:{hash}\nlee={KIMS}");
        assert_eq!(twice.parse::<NamedTokens>(), Err(NamedTokensError::Twice));
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
                "kim:root=0123456789abcdef0123456789abcdef",
                NamedTokensError::NoRole,
            ),
            ("kim=sha256:0123", NamedTokensError::NoHash),
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
