//! The payment provider's signature of a webhook: HMAC-SHA256.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// An HMAC-SHA256.
pub type Code = [u8; 32];

/// The code of several texts, one after the other.
///
/// # Panics
/// Never: HMAC takes keys of any length.
#[must_use]
pub fn code(key: &[u8], parts: &[&[u8]]) -> Code {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// The value of `X-Signature` for a body that is sent at `unix_seconds`:
/// `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.
#[must_use]
pub fn sign(secret: &str, unix_seconds: i64, body: &[u8]) -> String {
    let time = format!("{unix_seconds}.");
    let code = code(secret.as_bytes(), &[time.as_bytes(), body]);
    format!("t={unix_seconds},v1={}", hex::encode(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac webhook-secret
        let expected = "t=1700000000,v1=\
            2ff3101d20a9c9551ad8fbe65d513983f9ea07874c06dadf559d0c4e7f43181c";
        let signature = sign("webhook-secret", 1_700_000_000, br#"{"a":1}"#);
        assert_eq!(signature, expected);
    }
}
