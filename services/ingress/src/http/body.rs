//! Request bodies: JSON of at most 64 KiB.

mod arriving;

use std::pin::pin;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut, Data, Payload};
use futures_util::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use self::arriving::Arriving;
use crate::http::address::TrustedProxies;
use crate::http::problem::{FieldError, Problem};

/// Some serializers write it before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The most bytes of a body that are kept.
pub const LIMIT_BYTES: usize = 64 * 1024;
/// The most bytes of a body that are read. A connection that is closed while the client still
/// sends is reset, and the client does not get to see the answer.
const READ_LIMIT_BYTES: usize = 16 * 1024 * 1024;
/// How long a client may take to send its body.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// The payment provider sends from a server, and repeats a request that was not accepted.
pub const PROVIDER_DEADLINE: Duration = Duration::from_secs(5);
/// A body that takes longer is counted as slow. Most bodies come together with their heads.
const PROMPT: Duration = Duration::from_millis(100);
/// The same, for a body that is not needed.
const DISCARD_DEADLINE: Duration = Duration::from_secs(1);

/// Reads the whole body, whatever it is. Empty when there is none.
///
/// # Errors
/// 413 over [`LIMIT_BYTES`], 408 when it does not come within `deadline`, 400 when the connection breaks,
/// 503 when too many others are on their way from the same address.
pub async fn read_raw(
    request: &HttpRequest,
    payload: Payload,
    deadline: Duration,
) -> Result<Bytes, Problem> {
    let mut body = pin!(collect(payload));
    // Mostly it has come with its head, and needs no timer.
    if let Some(at_once) = body.as_mut().now_or_never() {
        return at_once;
    }
    if let Ok(prompt) = timeout(PROMPT, body.as_mut()).await {
        return prompt;
    }
    let proxies = request.app_data::<Data<TrustedProxies>>();
    let address = proxies.and_then(|proxies| proxies.client(request));
    let arriving = request.app_data::<Data<Arriving>>();
    let _arrival = arriving
        .map(|arriving| arriving.enter(address))
        .transpose()?;
    timeout(deadline.saturating_sub(PROMPT), body)
        .await
        .map_err(|_| Problem::body_too_slow())?
}

/// Reads a body that is not needed, if it comes soon. A connection with unread data cannot be used
/// again.
pub async fn discard(mut payload: dev::Payload) {
    let mut left_bytes = READ_LIMIT_BYTES;
    let _ = timeout(DISCARD_DEADLINE, async {
        while let Some(Ok(chunk)) = payload.next().await {
            match left_bytes.checked_sub(chunk.len()) {
                Some(left) => left_bytes = left,
                None => return,
            }
        }
    })
    .await;
}

/// Checks the headers that describe a body.
///
/// # Errors
/// 415 when it is in a coding, or not `application/json`.
pub fn check_is_json(request: &HttpRequest) -> Result<(), Problem> {
    let codings = request.headers().get_all(CONTENT_ENCODING);
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if !codings.all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return Err(Problem::coded());
    }
    let content_type = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|text| text.split(';').next());
    if essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json")) {
        Ok(())
    } else {
        Err(Problem::not_json())
    }
}

/// Reads a body that has to be there.
///
/// # Errors
/// As [`optional_json`], and 400 without a body.
pub async fn json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<T, Problem> {
    optional_json(request, payload)
        .await?
        .ok_or_else(|| Problem::invalid("This request needs a JSON body: send one."))
}

/// Reads a body that may be left out; `null` is none, too.
///
/// # Errors
/// As [`read_raw`] and [`check_is_json`], 400 when the JSON is malformed or is not a `T`.
pub async fn optional_json<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
) -> Result<Option<T>, Problem> {
    let body = read_raw(request, payload, DEADLINE).await?;
    if body.is_empty() {
        return Ok(None);
    }
    check_is_json(request)?;
    parse(&body)
}

/// Parses a body that was read before. A byte order mark before it is passed over.
///
/// # Errors
/// 400 when the JSON is malformed, an array, or not a `T`, with the member that is wrong.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    // serde reads an array as a struct, member by member in the order of the code.
    if body.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::invalid(
            "The body is an array: send one object, {…}.",
        ));
    }
    serde_json::from_slice(body).map_err(|error| not_expected::<T>(body, &error))
}

/// Reads again a body that did not parse, to find the member that is wrong.
fn not_expected<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Problem {
    let json = &mut serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(json) {
        Err(wrong) if error.is_data() && wrong.path().iter().len() > 0 => {
            Problem::invalid_fields(&[FieldError {
                field: wrong.path().to_string().into(),
                detail: wrong.into_inner().to_string(),
            }])
        }
        _ => Problem::invalid(format!("The body is not the JSON expected: {error}.")),
    }
}

async fn collect(mut payload: Payload) -> Result<Bytes, Problem> {
    let mut kept = BytesMut::new();
    let mut read_bytes = 0_usize;
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| {
            Problem::invalid("The body did not arrive whole: send it again.").because(error)
        })?;
        read_bytes = read_bytes.saturating_add(chunk.len());
        if read_bytes > READ_LIMIT_BYTES {
            break;
        }
        if read_bytes <= LIMIT_BYTES {
            kept.extend_from_slice(&chunk);
        }
    }
    if read_bytes > LIMIT_BYTES {
        return Err(Problem::body_too_large(LIMIT_BYTES));
    }
    Ok(kept.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;
    use actix_web::{FromRequest, ResponseError};
    use serde_json::Value;

    async fn status_of(content_type: Option<&str>, body: Vec<u8>) -> Result<Option<Value>, u16> {
        let mut request = TestRequest::post().set_payload(body);
        if let Some(content_type) = content_type {
            request = request.insert_header((CONTENT_TYPE, content_type));
        }
        let (request, mut payload) = request.to_http_parts();
        let payload = Payload::from_request(&request, &mut payload).await.unwrap();
        optional_json(&request, payload)
            .await
            .map_err(|problem| problem.status_code().as_u16())
    }

    fn json_of_bytes(bytes: usize) -> Vec<u8> {
        let mut body = vec![b'x'; bytes];
        body[0] = b'"';
        body[bytes - 1] = b'"';
        body
    }

    #[actix_web::test]
    async fn the_limit_is_64_kib_to_the_byte() {
        let json = Some("application/json");
        assert!(status_of(json, json_of_bytes(LIMIT_BYTES)).await.is_ok());
        assert_eq!(
            status_of(json, json_of_bytes(LIMIT_BYTES + 1)).await,
            Err(413)
        );
        assert_eq!(
            status_of(json, json_of_bytes(READ_LIMIT_BYTES + 1)).await,
            Err(413)
        );
    }

    /// serde would read the first element as the first member.
    #[test]
    fn an_array_is_no_object_of_its_elements() {
        #[derive(Debug, serde::Deserialize)]
        struct Amount {
            #[expect(dead_code, reason = "what is read is not looked at")]
            cents: Option<i64>,
        }
        for array in ["[]", "[1]", " \n\t[null]", "\u{feff}[1]"] {
            assert!(parse::<Amount>(array.as_bytes()).is_err(), "{array}");
            assert!(
                parse::<Option<Amount>>(array.as_bytes()).is_err(),
                "{array}"
            );
        }
        assert!(parse::<Amount>(b" {\"cents\": 1}").is_ok());
    }

    #[actix_web::test]
    async fn only_a_body_needs_a_content_type() {
        assert_eq!(status_of(None, Vec::new()).await, Ok(None));
        assert_eq!(status_of(Some("text/plain"), Vec::new()).await, Ok(None));
        assert_eq!(status_of(None, b"{}".to_vec()).await, Err(415));
        for other in [
            "text/plain",
            "application/jsonx",
            "application/problem+json",
        ] {
            assert_eq!(
                status_of(Some(other), b"{}".to_vec()).await,
                Err(415),
                "{other}"
            );
        }
        let null = status_of(Some("application/json"), b" null ".to_vec()).await;
        assert_eq!(null, Ok(None));
        let utf8 = Some("Application/JSON; charset=utf-8");
        assert!(status_of(utf8, b"{}".to_vec()).await.is_ok());
    }

    #[actix_web::test]
    async fn malformed_json_is_400() {
        for body in ["{", "{}{}", "\u{0}", "nul"] {
            let status = status_of(Some("application/json"), body.into()).await;
            assert_eq!(status, Err(400), "{body:?}");
        }
    }
}
