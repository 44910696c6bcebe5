//! Who an operator is, and where a request carries its token.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use seckill_telemetry::settings::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::problem::Problem;

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

/// What follows `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    const SECRET: &str = "a secret for tests only";

    fn secret() -> Secret {
        Secret::new(SECRET)
    }

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        headers
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
