//! Who is calling: buyers by signed token, operators by the admin token.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use seckill_domain::UserId;
use seckill_telemetry::settings::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

/// The issuer and the audience of this project's tokens.
pub const ISSUER: &str = "seckill";

#[derive(Serialize)]
struct MintedClaims {
    sub: String,
    iat: u64,
    exp: u64,
    iss: &'static str,
    aud: &'static str,
}

/// What is left to check after the library has checked the registered claims.
#[derive(Deserialize)]
struct VerifiedClaims {
    sub: String,
}

/// Checks buyers' tokens: JWTs, HS256, `iss` and `aud` [`ISSUER`], `exp` in the future, `sub` the
/// user id in decimal.
pub struct Tokens {
    key: DecodingKey,
    validation: Validation,
}

impl Tokens {
    /// `secret` is the key that tokens are signed with.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        // The algorithm is ours to choose, never the token's.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        Self {
            key: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
        }
    }

    /// The buyer whose token the request carries.
    ///
    /// # Errors
    /// `unauthorized` without a token, or with one that is not good.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<UserId, Problem> {
        let refused = || {
            Problem::unauthorized(
                "Send Authorization: Bearer with a token from the sign-in that has not expired.",
            )
        };
        let token = bearer(headers).ok_or_else(refused)?;
        let data = jsonwebtoken::decode::<VerifiedClaims>(token, &self.key, &self.validation)
            .map_err(|error| refused().because(error))?;
        data.claims
            .sub
            .parse()
            .map_err(|error| refused().because(error))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(redacted)")
    }
}

/// A token of `user` that is good for `ttl` from now.
///
/// # Errors
/// When the clock stands before 1970, or the token cannot be signed.
pub fn mint(secret: &Secret, user: UserId, ttl: Duration) -> anyhow::Result<String> {
    let iat = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = MintedClaims {
        sub: user.to_string(),
        iat,
        exp: iat.saturating_add(ttl.as_secs()),
        iss: ISSUER,
        aud: ISSUER,
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims,
        &key,
    )?)
}

/// Checks the operators' token.
///
/// # Errors
/// `unauthorized` without the token, or with another.
pub fn check_admin(expected: &Secret, headers: &HeaderMap) -> Result<(), Problem> {
    let given = bearer(headers).unwrap_or_default();
    // Hashes have one length, so that the comparison's time says nothing about the token.
    let digest = |text: &str| Sha256::digest(text.as_bytes());
    if bool::from(digest(given).ct_eq(&digest(expected.expose()))) {
        Ok(())
    } else {
        Err(Problem::unauthorized(
            "Send Authorization: Bearer with the admin token.",
        ))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;
    use serde_json::{Value, json};

    const SECRET: &str = "a secret for tests only";

    fn secret() -> Secret {
        Secret::new(SECRET)
    }

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        headers
    }

    fn good_claims() -> Value {
        json!({ "sub": "42", "iat": 1, "exp": 4_000_000_000_u64, "iss": "seckill", "aud": "seckill" })
    }

    fn signed(algorithm: Algorithm, key: &str, claims: &Value) -> String {
        let key = EncodingKey::from_secret(key.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn authenticate(token: &str) -> Option<UserId> {
        Tokens::new(&secret())
            .authenticate(&headers(&format!("Bearer {token}")))
            .ok()
    }

    #[test]
    fn a_minted_token_is_taken_until_it_expires() {
        let user = UserId::new(42).unwrap();
        let token = mint(&secret(), user, Duration::from_secs(60)).unwrap();
        assert_eq!(authenticate(&token), Some(user));
        let other = mint(
            &Secret::new("another secret"),
            user,
            Duration::from_secs(60),
        )
        .unwrap();
        assert_eq!(authenticate(&other), None);
    }

    #[test]
    fn a_token_with_one_wrong_claim_is_refused() {
        let good = good_claims();
        assert!(authenticate(&signed(Algorithm::HS256, SECRET, &good)).is_some());
        for (claim, wrong) in [
            ("exp", json!(1_000)),
            ("exp", Value::Null),
            ("iss", json!("somebody")),
            ("aud", json!("another-service")),
            ("aud", json!([])),
            ("sub", json!("root")),
            ("sub", json!("-1")),
            ("sub", json!(42)),
            ("nbf", json!(3_999_999_999_u64)),
        ] {
            let mut claims = good.clone();
            claims[claim] = wrong.clone();
            let token = signed(Algorithm::HS256, SECRET, &claims);
            assert_eq!(authenticate(&token), None, "{claim} = {wrong}");
        }
        for claim in ["sub", "exp", "iss", "aud"] {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().remove(claim);
            let token = signed(Algorithm::HS256, SECRET, &claims);
            assert_eq!(authenticate(&token), None, "without {claim}");
        }
    }

    #[test]
    fn the_audience_may_be_a_list_and_more_claims_are_allowed() {
        let mut claims = good_claims();
        claims["aud"] = json!(["shop", "seckill"]);
        claims["role"] = json!("buyer");
        assert!(authenticate(&signed(Algorithm::HS256, SECRET, &claims)).is_some());
    }

    #[test]
    fn the_token_does_not_choose_the_algorithm() {
        let good = good_claims();
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert_eq!(authenticate(&signed(algorithm, SECRET, &good)), None);
        }
        // {"alg":"none","typ":"JWT"} and the same claims, with no signature.
        let payload = signed(Algorithm::HS256, SECRET, &good);
        let payload = payload.split('.').nth(1).unwrap();
        let unsigned = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
        assert_eq!(authenticate(&unsigned), None);
    }

    #[test]
    fn only_a_bearer_token_is_read() {
        let token = signed(Algorithm::HS256, SECRET, &good_claims());
        let tokens = Tokens::new(&secret());
        assert!(
            tokens
                .authenticate(&headers(&format!("bearer {token}")))
                .is_ok()
        );
        assert!(
            tokens
                .authenticate(&headers(&format!("Basic {token}")))
                .is_err()
        );
        assert!(tokens.authenticate(&headers(&token)).is_err());
        assert!(tokens.authenticate(&HeaderMap::new()).is_err());
    }

    #[test]
    fn the_admin_token_is_compared_as_a_whole() {
        assert!(check_admin(&secret(), &headers(&format!("Bearer {SECRET}"))).is_ok());
        for wrong in [
            "Bearer a secret",
            "Bearer ",
            "Basic a secret for tests only",
        ] {
            assert!(check_admin(&secret(), &headers(wrong)).is_err(), "{wrong}");
        }
        assert!(check_admin(&secret(), &HeaderMap::new()).is_err());
    }
}
