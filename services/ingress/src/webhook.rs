//! The payment provider's signature: `X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of
//! "t.body">`. The time is signed too, so that a recorded request is of no use later.

use hmac::{Hmac, Mac};
use seckill_telemetry::settings::Secret;
use sha2::Sha256;

/// How far the signature's time may be from ours, in seconds, in either direction.
const TOLERANCE_SECONDS: u64 = 300;

/// Why a signature is not good. Not told to the caller: it would only help who tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It is not `t=<seconds>,v1=<64 hexadecimal digits>`.
    #[error("the signature is malformed")]
    Malformed,
    /// Its time is too far from ours.
    #[error("the signature is more than {TOLERANCE_SECONDS} s old or early")]
    Stale,
    /// It was made with another key or for another body.
    #[error("the signature is not of this body")]
    Wrong,
}

/// The header's value for `body` at `unix_seconds`.
#[must_use]
pub fn sign(secret: &Secret, unix_seconds: i64, body: &[u8]) -> String {
    let code = mac(secret, unix_seconds, body).finalize().into_bytes();
    format!("t={unix_seconds},v1={}", hex::encode(code))
}

/// Checks the header's value, in constant time where it depends on the secret.
///
/// # Errors
/// Which part is not good.
pub fn verify(
    secret: &Secret,
    now_unix_seconds: i64,
    header: &str,
    body: &[u8],
) -> Result<(), SignatureError> {
    let (seconds, code) = parse(header).ok_or(SignatureError::Malformed)?;
    if now_unix_seconds.abs_diff(seconds) > TOLERANCE_SECONDS {
        return Err(SignatureError::Stale);
    }
    mac(secret, seconds, body)
        .verify_slice(&code)
        .map_err(|_| SignatureError::Wrong)
}

/// Digits only in `t`: a text that parses to the same number but is another (`+5`, `05`) would not
/// be the text that was signed.
fn parse(header: &str) -> Option<(i64, Vec<u8>)> {
    let (time, code) = header.split_once(',')?;
    let time = time.trim().strip_prefix("t=")?;
    let code = code.trim().strip_prefix("v1=")?;
    let seconds: i64 = time.parse().ok()?;
    let canonical = seconds.to_string() == time;
    canonical.then_some(())?;
    Some((seconds, hex::decode(code).ok()?))
}

fn mac(secret: &Secret, unix_seconds: i64, body: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        Hmac::new_from_slice(secret.expose().as_bytes()).expect("HMAC takes keys of every length");
    mac.update(unix_seconds.to_string().as_bytes());
    mac.update(b".");
    mac.update(body);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const BODY: &[u8] = br#"{"payment_id":"p-1"}"#;

    fn secret() -> Secret {
        Secret::new("a webhook secret")
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_time_dot_body() {
        // RFC 4231 has no such input; computed with OpenSSL:
        // printf '1800000000.{"payment_id":"p-1"}' | openssl dgst -sha256 -hmac 'a webhook secret'
        let expected = "95479e8d61657df5311023ae283054f182aa39a41792fe8751dea7b838818c0c";
        assert_eq!(sign(&secret(), NOW, BODY), format!("t={NOW},v1={expected}"));
    }

    #[test]
    fn a_signature_is_good_for_its_body_and_time_only() {
        let good = sign(&secret(), NOW, BODY);
        assert_eq!(verify(&secret(), NOW, &good, BODY), Ok(()));
        assert_eq!(verify(&secret(), NOW + 300, &good, BODY), Ok(()));
        assert_eq!(verify(&secret(), NOW - 300, &good, BODY), Ok(()));
        for late in [NOW + 301, NOW - 301, i64::MIN, i64::MAX] {
            let checked = verify(&secret(), late, &good, BODY);
            assert_eq!(checked, Err(SignatureError::Stale), "{late}");
        }
        let wrong = Err(SignatureError::Wrong);
        assert_eq!(verify(&secret(), NOW, &good, b"{}"), wrong);
        assert_eq!(verify(&Secret::new("another"), NOW, &good, BODY), wrong);
        let moved = good.replace(&format!("t={NOW}"), &format!("t={}", NOW + 1));
        assert_eq!(verify(&secret(), NOW, &moved, BODY), wrong);
        let cut = &good[..good.len() - 2];
        assert_eq!(verify(&secret(), NOW, cut, BODY), wrong);
    }

    #[test]
    fn what_is_no_signature_is_refused_without_a_panic() {
        for header in [
            "",
            "t=",
            "t=1",
            "v1=00",
            "t=x,v1=00",
            "t=+5,v1=00",
            "t=5,v1=zz",
            "t=5;v1=00",
        ] {
            let checked = verify(&secret(), 5, header, BODY);
            assert_eq!(checked, Err(SignatureError::Malformed), "{header:?}");
        }
    }
}
