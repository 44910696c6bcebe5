//! Tokens of an identity provider (OpenID Connect): JWTs that it signs with RS256 or ES256 under keys that it publishes.

use std::collections::HashMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value};

use crate::jwt;

/// The clocks of the provider and of this machine may differ by so much.
pub const LEEWAY_SECONDS: u64 = 30;

/// What is in a token that was found good.
pub type Claims = Map<String, Value>;

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGood {
    /// No key of this name is known. The provider may have a new one.
    #[error("its key is not known")]
    UnknownKey,
    /// It will not become good.
    #[error("{0}")]
    Refused(String),
}

/// The keys of one issuer at one time.
#[derive(Default)]
pub struct Keys(HashMap<String, (Algorithm, DecodingKey)>);

impl Keys {
    /// Those of a JWK set that sign with RS256 or ES256, by their names (`kid`). Others are left out: a provider has keys for other
    /// purposes, too.
    ///
    /// # Errors
    /// When it is no JWK set, or has none of these keys.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(json).map_err(|e| format!("is no JSON: {e}"))?;
        let all = set["keys"].as_array().ok_or("is no JWK set")?;
        let keys: HashMap<_, _> = all.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err("has no key with a kid for RS256 or ES256".to_owned());
        }
        Ok(Self(keys))
    }

    /// The claims of a token that `issuer` signed for `audience`, and that is good now. Its algorithm has to be its key's.
    ///
    /// # Errors
    /// Why it is not good.
    pub fn check(&self, token: &str, issuer: &str, audience: &str) -> Result<Claims, NotGood> {
        let refused = |error: jsonwebtoken::errors::Error| NotGood::Refused(error.to_string());
        let header = jsonwebtoken::decode_header(token).map_err(refused)?;
        // Whatever key it names: no key is for another one.
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
            return Err(refused(ErrorKind::InvalidAlgorithm.into()));
        }
        let kid = header.kid.unwrap_or_default();
        let (algorithm, key) = self.0.get(&kid).ok_or(NotGood::UnknownKey)?;
        let mut validation = Validation::new(*algorithm);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        jwt::decode(token, key, &validation).map_err(refused)
    }
}

/// A key's algorithm follows from its kind, never from a token.
fn key(json: &Value) -> Option<(String, (Algorithm, DecodingKey))> {
    let jwk: Jwk = serde_json::from_value(json.clone()).ok()?;
    if !matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    ) {
        return None;
    }
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|said| said != named) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some((jwk.common.key_id?, (algorithm, decoding)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_set_without_a_usable_key_is_refused_and_keys_for_other_purposes_are_left_out() {
        for wrong in [
            json!({}),
            json!({ "keys": [] }),
            // A secret is no public key.
            json!({ "keys": [{ "kty": "oct", "kid": "a", "k": "AQAB" }] }),
            json!({ "keys": [{ "kty": "RSA", "kid": "a", "use": "enc", "n": "AQAB", "e": "AQAB" }] }),
            json!({ "keys": [{ "kty": "RSA", "kid": "a", "alg": "PS256", "n": "AQAB", "e": "AQAB" }] }),
            json!({ "keys": [{ "kty": "RSA", "n": "AQAB", "e": "AQAB" }] }),
            json!({ "keys": [{ "kty": "EC", "kid": "a", "crv": "P-384", "x": "AQAB", "y": "AQAB" }] }),
        ] {
            assert!(Keys::read(wrong.to_string().as_bytes()).is_err(), "{wrong}");
        }
        let good = json!({ "keys": [
            { "kty": "unheard of" },
            { "kty": "RSA", "kid": "a", "use": "sig", "n": "AQAB", "e": "AQAB" },
        ] });
        let keys = Keys::read(good.to_string().as_bytes()).unwrap();
        assert_eq!(keys.0.len(), 1);
        assert_eq!(keys.0["a"].0, Algorithm::RS256);
    }
}
