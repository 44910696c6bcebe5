//! What buyers and the payment provider show the ingress: tokens and signatures, made here.

use anyhow::Context;
use hmac::{Hmac, Mac};
use hyper::header::HeaderValue;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use seckill_telemetry::settings::Secret;
use serde::Serialize;
use sha2::Sha256;
use time::OffsetDateTime;

/// Longer than any run.
const TOKEN_SECONDS: i64 = 3600;
/// Issuer and audience of a buyer's token.
const PARTY: &str = "seckill";

#[derive(Serialize)]
struct Claims {
    sub: String,
    iat: i64,
    exp: i64,
    iss: &'static str,
    aud: &'static str,
}

/// `Bearer <token>` for each of the users 1 to `users`, in order.
///
/// # Errors
/// When a token cannot be signed.
pub fn bearers(secret: &Secret, users: u32) -> anyhow::Result<Vec<HeaderValue>> {
    (1..=users)
        .map(|user| bearer(secret, user.into()))
        .collect()
}

/// `Bearer <token>` for one user.
///
/// # Errors
/// When the token cannot be signed.
pub fn bearer(secret: &Secret, user: u64) -> anyhow::Result<HeaderValue> {
    let iat = OffsetDateTime::now_utc().unix_timestamp();
    let claims = Claims {
        sub: user.to_string(),
        iat,
        exp: iat + TOKEN_SECONDS,
        iss: PARTY,
        aud: PARTY,
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
    let token = token.context("signing a token")?;
    Ok(HeaderValue::try_from(format!("Bearer {token}"))?)
}

/// The value of `X-Signature` for a webhook call: `t=<unix>,v1=<hex hmac-sha256 of "t.body">`.
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn signature(secret: &Secret, unix_seconds: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{unix_seconds}.").as_bytes());
    mac.update(body);
    let digest = hex::encode(mac.finalize().into_bytes());
    format!("t={unix_seconds},v1={digest}")
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac webhook-secret
        let expected = "t=1700000000,v1=\
            2ff3101d20a9c9551ad8fbe65d513983f9ea07874c06dadf559d0c4e7f43181c";
        let secret = Secret::new("webhook-secret");
        assert_eq!(signature(&secret, 1_700_000_000, br#"{"a":1}"#), expected);
    }

    #[test]
    fn a_token_carries_the_users_number_issuer_audience_and_an_end() {
        let secret = Secret::new("0123456789abcdef");
        let bearers = bearers(&secret, 2).unwrap();
        let token = bearers[1]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&["seckill"]);
        validation.set_audience(&["seckill"]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_secret(b"0123456789abcdef");
        let claims = jsonwebtoken::decode::<Value>(token, &key, &validation)
            .unwrap()
            .claims;
        assert_eq!(claims["sub"], "2");
    }
}
