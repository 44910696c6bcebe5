//! Signed tokens: JWTs, HS256.

use std::fmt::Display;
use std::time::Duration;

pub use jsonwebtoken::errors::Error;
use jsonwebtoken::errors::ErrorKind;
pub use jsonwebtoken::{Algorithm, Validation};
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::jwt;
use crate::metrics;
use crate::signature::code;

/// The issuer and the audience of this project's tokens.
pub const ISSUER: &str = "seckill";

/// The registered claims of a buyer's token. Times in seconds since the Unix epoch.
#[derive(Debug, Clone, Serialize)]
pub struct BuyerClaims {
    /// The user id in decimal.
    pub sub: String,
    /// Issued at.
    pub iat: u64,
    /// Good until.
    pub exp: u64,
    /// [`ISSUER`].
    pub iss: &'static str,
    /// [`ISSUER`].
    pub aud: &'static str,
}

impl BuyerClaims {
    /// Of a user's token that is good for `ttl`.
    #[must_use]
    pub fn new(user: impl Display, iat: u64, ttl: Duration) -> Self {
        Self {
            sub: user.to_string(),
            iat,
            exp: iat.saturating_add(ttl.as_secs()),
            iss: ISSUER,
            aud: ISSUER,
        }
    }
}

/// What the ingress demands of a buyer's token, beside its signature.
#[must_use]
pub fn demands() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[ISSUER]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = 0;
    validation
}

/// A token that does not say which key it was signed with.
///
/// # Errors
/// When the claims are not JSON.
pub fn sign(secret: &str, claims: &impl Serialize) -> Result<String, Error> {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jwt::encode(&Header::new(Algorithm::HS256), claims, &key)
}

/// Whether [`Keyring::check`] refused a token for its algorithm alone, before its signature was looked at: it may be another's.
#[must_use]
pub fn is_of_another_algorithm(error: &Error) -> bool {
    *error.kind() == ErrorKind::InvalidAlgorithm
}

/// Signs and checks tokens of one kind. While its key changes, tokens of the previous one are good, too.
/// The algorithm is never read from a token.
pub struct Keyring {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    previous: Option<DecodingKey>,
    validation: Validation,
}

impl Keyring {
    /// `key` signs; what `validation` asks of a token's claims holds for both keys.
    #[must_use]
    pub fn new(key: &[u8], previous: Option<&[u8]>, validation: Validation) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(hex::encode(&derived(key, b"key id")[..4]));
        Self {
            header,
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            previous: previous.map(DecodingKey::from_secret),
            validation,
        }
    }

    /// A token that says which key it was signed with.
    ///
    /// # Errors
    /// When the claims are not JSON.
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        jwt::encode(&self.header, claims, &self.encoding)
    }

    /// The claims of a good token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check<T: DeserializeOwned>(&self, token: &str) -> Result<T, Error> {
        let checked = jwt::decode(token, &self.decoding, &self.validation);
        match (checked, &self.previous) {
            (Err(error), Some(previous)) if *error.kind() == ErrorKind::InvalidSignature => {
                let claims = jwt::decode(token, previous, &self.validation)?;
                metrics::PREVIOUS_SECRET_USES.with(["token"]).increment(1);
                Ok(claims)
            }
            (checked, _) => checked,
        }
    }
}

/// A key for one use only.
#[must_use]
pub fn derived(key: &[u8], purpose: &[u8]) -> [u8; 32] {
    code(key, &[purpose])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_signed_token_passes_the_check_under_its_own_key_only() {
        let claims = BuyerClaims::new(7, 4_000_000_000, Duration::from_secs(900));
        let token = sign(SECRET, &claims).unwrap();
        let checked: Value = Keyring::new(SECRET.as_bytes(), None, demands())
            .check(&token)
            .unwrap();
        assert_eq!(checked["sub"], "7");
        assert_eq!(checked["exp"], 4_000_000_900_u64);
        let other = Keyring::new(b"another secret", None, demands());
        assert!(other.check::<Value>(&token).is_err());
    }
}
