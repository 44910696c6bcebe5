//! The refusal of the sign-in's own limits.

use std::time::Duration;

use actix_web::http::{StatusCode, header};

use super::Problem;
use crate::limits::{RATE_LIMIT, RATE_LIMIT_POLICY};

impl Problem {
    /// 429: too many codes were asked for or tried from one client, or by all; `policy` says which.
    #[must_use]
    pub fn sign_in_limited(policy: &str, per_minute: u32, retry_after: Duration) -> Self {
        // Rounded up: a client that comes back a moment too early only adds load.
        let seconds = retry_after.as_millis().div_ceil(1_000).max(1).to_string();
        Self::new(
            "rate-limited",
            "Too many requests",
            StatusCode::TOO_MANY_REQUESTS,
            "Too many sign-ins were attempted: wait as long as Retry-After says.",
        )
        .with_header(header::RETRY_AFTER, &seconds)
        .with_header(
            RATE_LIMIT_POLICY,
            &format!("\"{policy}\";q={per_minute};w=60"),
        )
        .with_header(RATE_LIMIT, &format!("\"{policy}\";r=0;t={seconds}"))
    }
}
