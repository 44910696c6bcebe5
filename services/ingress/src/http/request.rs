//! The parts of a request outside its body: the path and the ids in it, headers, the query.

use std::str::FromStr;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use seckill_domain::{KeyHash, OrderId, VoucherId};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::http::problem::Problem;

const KEY_MAX_BYTES: usize = 255;

/// Whether a path is spelled as the routes are. None of them needs an escape; the router would decode one,
/// while the gate and proxies in front look at the text as it came.
#[must_use]
pub fn is_canonical(path: &str) -> bool {
    !path.contains('%')
}

/// The voucher in the path.
///
/// # Errors
/// 400 when it is no positive number, 404 when it is larger than any voucher's.
pub fn voucher_id(request: &HttpRequest) -> Result<VoucherId, Problem> {
    let text = request.match_info().query("voucher_id");
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let is_number = digits && !text.is_empty() && !text.starts_with('0');
    VoucherId::from_str(text).map_err(|error| {
        if is_number {
            Problem::not_found("There is no such voucher.")
        } else {
            Problem::invalid(format!("The path names no voucher: {error}."))
        }
    })
}

/// The order in the path.
///
/// # Errors
/// 400 when it is no UUID, 404 when no order can have it.
pub fn order_id(request: &HttpRequest) -> Result<OrderId, Problem> {
    let text = request.match_info().query("order_id");
    OrderId::from_str(text).map_err(|error| {
        if Uuid::try_parse(text).is_ok() {
            Problem::not_found("There is no such order.")
        } else {
            Problem::invalid(format!("The path names no order: {error}."))
        }
    })
}

/// The query of a list as a `T`.
///
/// # Errors
/// 400 when it is none.
pub fn page_query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Problem> {
    actix_web::web::Query::<T>::from_query(request.query_string())
        .map(actix_web::web::Query::into_inner)
        .map_err(|_| {
            Problem::invalid(
                "The query cannot be used: limit is a whole number, and before the `next` of the page before.",
            )
        })
}

/// What follows `Authorization: Bearer`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

/// The hash of `Idempotency-Key`, if the request has one.
///
/// # Errors
/// 400 when the key is not 1 to 255 visible ASCII characters, or comes more than once.
pub fn key_hash(headers: &HeaderMap) -> Result<Option<KeyHash>, Problem> {
    let mut keys = headers.get_all("idempotency-key");
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let bytes = key.as_bytes();
    let fits = (1..=KEY_MAX_BYTES).contains(&bytes.len());
    if !fits || !bytes.iter().all(u8::is_ascii_graphic) || keys.next().is_some() {
        return Err(Problem::invalid(format!(
            "An Idempotency-Key is 1 to {KEY_MAX_BYTES} visible ASCII characters, once: change it."
        )));
    }
    Ok(Some(hash(bytes)))
}

/// The first 16 bytes of SHA-256.
#[must_use]
pub fn hash(bytes: &[u8]) -> KeyHash {
    let mut first = [0; 16];
    first.copy_from_slice(&Sha256::digest(bytes)[..16]);
    KeyHash::from_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError;
    use actix_web::http::header::{HeaderName, HeaderValue};
    use actix_web::test::TestRequest;

    fn keys(values: &[&[u8]]) -> Result<Option<KeyHash>, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            let value = HeaderValue::from_bytes(value).unwrap();
            headers.append(HeaderName::from_static("idempotency-key"), value);
        }
        key_hash(&headers).map_err(|problem| problem.status_code().as_u16())
    }

    #[test]
    fn a_key_is_1_to_255_visible_ascii_characters() {
        assert_eq!(keys(&[]), Ok(None));
        assert!(keys(&[b"a"]).unwrap().is_some());
        assert!(keys(&[&[b'~'; 255]]).unwrap().is_some());
        let bad: [&[u8]; 4] = [b"", &[b'a'; 256], b"a b", "clé".as_bytes()];
        for key in bad {
            assert_eq!(keys(&[key]), Err(400), "{key:?}");
        }
        assert_eq!(keys(&[b"a", b"b"]), Err(400));
    }

    #[test]
    fn a_key_hash_is_the_first_half_of_sha_256() {
        // FIPS 180-2, appendix B.1: SHA-256 of "abc" begins ba7816bf 8f01cfea 414140de 5dae2223.
        assert_eq!(hash(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn a_path_that_names_nothing_is_404_and_one_that_is_no_id_400() {
        let status = |name: &'static str, value: &'static str| {
            let request = TestRequest::default().param(name, value).to_http_request();
            let result = if name == "voucher_id" {
                voucher_id(&request).map(|_| ())
            } else {
                order_id(&request).map(|_| ())
            };
            result.err().map(|problem| problem.status_code().as_u16())
        };
        assert_eq!(status("voucher_id", "7"), None);
        assert_eq!(status("voucher_id", "0"), Some(400));
        assert_eq!(status("voucher_id", "1099511627776"), Some(404));
        assert_eq!(status("voucher_id", "-7"), Some(400));
        assert_eq!(status("voucher_id", "seven"), Some(400));
        let version_4 = "7b0e8f2e-33a1-4c55-9c4d-1f6f4f3a2b10";
        assert_eq!(status("order_id", version_4), Some(404));
        assert_eq!(status("order_id", "7"), Some(400));
    }
}
