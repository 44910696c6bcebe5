//! Parameters, headers and ways to authenticate that several operations share.

use serde_json::{Value, json};

use seckill_domain::{Actor, Reason, VoucherId};

use crate::operators::terms::ONE_LINE_PATTERN;
use crate::sign_in::api::CHALLENGE;

/// The header of a renewed token. Answers to unknown callers do not have it.
pub(super) const RENEWED_TOKEN: &str = "X-Renewed-Token";

const HEADERS: [&str; 8] = [
    "Cache-Control",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "Set-Cookie",
    "WWW-Authenticate",
    RENEWED_TOKEN,
];

/// A parameter that is in a path or is named in `x-parameters`.
pub(super) fn parameter(name: &str) -> Option<Value> {
    let (place, description, schema) = match name {
        "voucher_id" => (
            "path",
            "The voucher.",
            json!({ "type": "integer", "format": "int64", "minimum": 1, "maximum": VoucherId::MAX }),
        ),
        "order_id" => (
            "path",
            "The order, as its first answer named it: a UUID of version 8.",
            json!({ "type": "string", "format": "uuid" }),
        ),
        "partition" => (
            "path",
            "The partition of the event topic.",
            json!({ "type": "integer", "format": "int32", "minimum": 0, "maximum": i32::MAX }),
        ),
        "offset" => (
            "path",
            "Where the record stands in its partition.",
            json!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX }),
        ),
        "name" => (
            "path",
            "The file's name.",
            json!({ "type": "string", "minLength": 1 }),
        ),
        "Idempotency-Key" => (
            "header",
            "Of the client's choice, one for each thing that is wanted: a repetition with the same key is answered as the first was.",
            json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" }),
        ),
        "X-Operator" => (
            "header",
            "Who asks, for the audit: one line. Without it the caller's address is noted.",
            one_line(Actor::MAX_CHARS),
        ),
        "X-Reason" => (
            "header",
            "Why, for the audit: one line.",
            one_line(Reason::MAX_CHARS),
        ),
        "X-Sale-Token" => (
            "header",
            "A sale token of the caller for this sale. Sales whose `requires_sale_token` is true take no order without, and the operators' risk rules may not either.",
            json!({ "type": "string" }),
        ),
        CHALLENGE => (
            "cookie",
            "As the request for the code was answered with it; any other counts as none.",
            json!({ "type": "string" }),
        ),
        "Last-Event-ID" => (
            "header",
            "The id of the last event that the client has seen; anything else counts as none.",
            json!({ "type": "string" }),
        ),
        _ => return None,
    };
    Some(json!({
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": schema,
    }))
}

/// A response header, with its name in the usual spelling. `name` may be in upper or lower case.
pub(super) fn header(name: &str) -> Option<(&'static str, Value)> {
    let name = HEADERS
        .into_iter()
        .find(|known| known.eq_ignore_ascii_case(name))?;
    let (description, schema, example) = match name {
        "Cache-Control" => ("Who may keep the answer.", text(), "no-store"),
        "Location" => (
            "Where the order's status is.",
            json!({ "type": "string", "format": "uri-reference" }),
            "/api/v1/orders/00000000-0700-8000-8000-040000000001",
        ),
        "RateLimit" => (
            "What is left of each limit that the request was counted under (r), and when it is whole again (t).",
            text(),
            r#""user";r=4;t=1"#,
        ),
        "RateLimit-Policy" => (
            "Those limits: so many requests (q) in so many seconds (w).",
            text(),
            r#""user";q=5;w=1"#,
        ),
        "Retry-After" => (
            "Seconds to wait.",
            json!({ "type": "string", "pattern": "^[1-9][0-9]*$" }),
            "1",
        ),
        "Set-Cookie" => (
            "`seckill-challenge`: to be sent back with the code.",
            text(),
            "seckill-challenge=5f0c1b0e6c5e4c0f8a8e2f6d3b1a9c7d; Path=/api/v1/sign-in; Max-Age=300; HttpOnly; SameSite=Strict",
        ),
        "WWW-Authenticate" => ("What to send.", text(), r#"Bearer realm="seckill""#),
        RENEWED_TOKEN => (
            "A new token for the session, good for longer: send it from now on.",
            text(),
            "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…",
        ),
        _ => return None,
    };
    let header = json!({ "description": description, "schema": schema, "example": example });
    Some((name, header))
}

fn one_line(max_chars: usize) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": max_chars, "pattern": ONE_LINE_PATTERN })
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1 })
}

/// How a caller authenticates itself.
pub(super) fn security_scheme(name: &str) -> Option<Value> {
    let scheme = match name {
        "token" => json!({
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A buyer's token, from the sign-in or from the identity provider of BUYER_ISSUER.",
        }),
        "adminToken" => json!({
            "type": "http",
            "scheme": "bearer",
            "description": "The token that operators share, or one of their own, whose role says what they may do.",
        }),
        "webhookSignature" => json!({
            "type": "apiKey",
            "in": "header",
            "name": "X-Signature",
            "description": "t=<unix seconds>,v1=<hex HMAC-SHA256 of \"t.body\"> under the secret shared with the provider, of this moment; several v1 may stand in it. Or webhook-id, webhook-timestamp and webhook-signature of Standard Webhooks.",
        }),
        _ => return None,
    };
    Some(scheme)
}
