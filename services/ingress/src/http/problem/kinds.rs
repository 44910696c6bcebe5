//! Every problem that does not depend on the sale.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use actix_web::http::header;
use actix_web::http::{Method, StatusCode};
use seckill_domain::OrderId;
use seckill_identity::Limits;
use serde_json::json;

use super::{FieldError, Problem, RATE_LIMIT, RATE_LIMIT_POLICY};

impl Problem {
    /// 422: the payment is another order's.
    #[must_use]
    pub fn payment_id_reused(order_id: OrderId) -> Self {
        Self::new(
            "payment-id-reused",
            "Payment id reused",
            StatusCode::UNPROCESSABLE_ENTITY,
            "This payment_id came for the order in order_id before, and counts for that one. Where \
             it was another payment, send it under an id of its own.",
        )
        .with_member("order_id", json!(order_id.to_string()))
    }

    /// The name of [`Problem::overloaded`].
    pub const OVERLOADED: &'static str = "overloaded";
    /// The name of [`Problem::rate_limited`].
    pub const RATE_LIMITED: &'static str = "rate-limited";

    /// 429: too many requests; `policy` and `limit_per_second` name the limit that was hit.
    #[must_use]
    pub fn rate_limited(policy: &str, limit_per_second: u32, retry_after: Duration) -> Self {
        let detail = "Too many orders were attempted: wait as long as Retry-After says.";
        Self::limited(policy, (limit_per_second, 1), retry_after, detail)
    }

    /// 429: too many codes were asked for or tried from one client, or by all; `policy` says which.
    #[must_use]
    pub fn sign_in_limited(policy: &str, per_minute: u32, retry_after: Duration) -> Self {
        let detail = "Too many sign-ins were attempted: wait as long as Retry-After says.";
        Self::limited(policy, (per_minute, 60), retry_after, detail)
    }

    /// `count` requests within `seconds` are the limit.
    fn limited(
        policy: &str,
        (count, seconds): (u32, u32),
        retry_after: Duration,
        detail: &'static str,
    ) -> Self {
        let wait = whole_seconds(retry_after);
        Self::new(
            Self::RATE_LIMITED,
            "Too many requests",
            StatusCode::TOO_MANY_REQUESTS,
            detail,
        )
        .with_header(header::RETRY_AFTER, &wait)
        .with_header(
            RATE_LIMIT_POLICY,
            &format!("\"{policy}\";q={count};w={seconds}"),
        )
        .with_header(RATE_LIMIT, &format!("\"{policy}\";r=0;t={wait}"))
    }

    /// 429: too many codes were sent to one address.
    #[must_use]
    pub fn code_limited(limits: &Limits, retry_after: Duration) -> Self {
        let seconds = whole_seconds(retry_after);
        let policies: Vec<String> = limits
            .levels()
            .iter()
            .map(|level| format!("\"codes\";q={};w={}", level.count, level.window.as_secs()))
            .collect();
        Self::new(
            "rate-limited",
            "Too many requests",
            StatusCode::TOO_MANY_REQUESTS,
            "A code was sent to this address a moment ago, or too many were: wait as long as Retry-After says.",
        )
        .with_header(header::RETRY_AFTER, &seconds)
        .with_header(RATE_LIMIT_POLICY, &policies.join(", "))
        .with_header(RATE_LIMIT, &format!("\"codes\";r=0;t={seconds}"))
    }

    /// 429: the buyer has too many streams open, of one order or in all.
    #[must_use]
    pub fn too_many_streams() -> Self {
        Self::new(
            "too-many-streams",
            "Too many streams",
            StatusCode::TOO_MANY_REQUESTS,
            "You follow too many orders at a time, or one too often: close a stream, or poll the order.",
        )
        .with_header(header::RETRY_AFTER, "5")
    }

    /// 401: the caller is not known.
    #[must_use]
    pub fn unauthorized(detail: &'static str) -> Self {
        Self::new(
            "unauthorized",
            "Unauthorized",
            StatusCode::UNAUTHORIZED,
            detail,
        )
    }

    /// 403: the caller is known, and their role is not enough.
    #[must_use]
    pub fn forbidden(detail: &'static str) -> Self {
        Self::new("forbidden", "Forbidden", StatusCode::FORBIDDEN, detail)
    }

    /// 403: an operator's rule refuses the order; `rule` names it.
    #[must_use]
    pub fn denied(rule: &'static str, detail: &'static str) -> Self {
        Self::new("denied", "Denied", StatusCode::FORBIDDEN, detail)
            .with_member("rule", json!(rule))
    }

    /// 404: there is no such thing, or it is somebody else's.
    #[must_use]
    pub fn not_found(detail: &'static str) -> Self {
        Self::new("not-found", "Not found", StatusCode::NOT_FOUND, detail)
    }

    /// 409: the order is not in a state in which it can be cancelled.
    #[must_use]
    pub fn not_cancellable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            "not-cancellable",
            "Not cancellable",
            StatusCode::CONFLICT,
            detail,
        )
    }

    /// 409: a record is not written into the log again; `why` begins with a small letter.
    #[must_use]
    pub fn not_redrivable(why: &str) -> Self {
        Self::new(
            "not-redrivable",
            "Not redrivable",
            StatusCode::CONFLICT,
            format!("The record cannot be redriven: {why}."),
        )
    }

    /// 409: a shrink asks for more units than are free.
    #[must_use]
    pub fn stock_committed(free_units: i64) -> Self {
        Self::new(
            "stock-committed",
            "Stock is committed",
            StatusCode::CONFLICT,
            format!("Only {free_units} units are free, the rest is sold or held: take fewer."),
        )
        .with_member("free", json!(free_units))
    }

    /// 503: something the answer needs is away for now.
    #[must_use]
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            "unavailable",
            "Unavailable",
            StatusCode::SERVICE_UNAVAILABLE,
            detail,
        )
        .with_header(header::RETRY_AFTER, "1")
    }

    /// 503: more comes than can be served, and what is new is refused first.
    #[must_use]
    pub fn overloaded() -> Self {
        Self::new(
            Self::OVERLOADED,
            "Overloaded",
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many requests are under way: nothing was taken, try again in a moment.",
        )
        .with_header(header::RETRY_AFTER, "1")
    }

    /// 400: the request cannot be understood.
    #[must_use]
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(
            "invalid-request",
            "Invalid request",
            StatusCode::BAD_REQUEST,
            detail,
        )
    }

    /// 400: each member of the body that is wrong.
    #[must_use]
    pub fn invalid_fields(errors: &[FieldError]) -> Self {
        Self::invalid("The members in errors are wrong: change them.")
            .with_member("errors", json!(errors))
    }

    /// 405 with `Allow`.
    #[must_use]
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let allow = allowed
            .iter()
            .map(Method::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        Self::new(
            "method-not-allowed",
            "Method not allowed",
            StatusCode::METHOD_NOT_ALLOWED,
            format!("This path takes {allow}."),
        )
        .with_header(header::ALLOW, &allow)
    }

    /// 408: the body did not come in time.
    #[must_use]
    pub fn body_too_slow() -> Self {
        Self::new(
            "request-timeout",
            "Request timed out",
            StatusCode::REQUEST_TIMEOUT,
            "The body did not arrive in time: send it again.",
        )
    }

    /// 413: the body is over the limit.
    #[must_use]
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::new(
            "payload-too-large",
            "Payload too large",
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("A body has at most {limit_bytes} bytes: send less."),
        )
    }

    /// 415: the body is not JSON.
    #[must_use]
    pub fn not_json() -> Self {
        Self::new(
            "unsupported-media-type",
            "Unsupported media type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "A body is JSON: send it with Content-Type: application/json.",
        )
    }

    /// 415: the body is compressed, or in another coding.
    #[must_use]
    pub fn coded() -> Self {
        Self::new(
            "unsupported-media-type",
            "Unsupported media type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "A body is read as it is: send it without Content-Encoding.",
        )
        .with_header(header::ACCEPT_ENCODING, "identity")
    }

    /// 500: a mistake of this program; the client is told nothing, the log has the cause.
    #[must_use]
    pub fn internal(cause: impl Display) -> Self {
        Self::new(
            "internal",
            "Internal error",
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong here. Try again; an order with the same Idempotency-Key is safe.",
        )
        .because(cause)
    }
}

/// Rounded up, at least 1: a client that comes back a moment too early only adds load.
fn whole_seconds(wait: Duration) -> String {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    seconds.max(1).to_string()
}
