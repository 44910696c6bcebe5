//! The trace of a request.

use actix_web::dev::ServiceRequest;
use actix_web::{HttpMessage, HttpRequest};
use seckill_domain::TraceParent;
use uuid::Uuid;

/// The trace that [`crate::middleware::observe`] gave this request.
#[must_use]
pub fn trace_of(request: &HttpRequest) -> TraceParent {
    let known = request.extensions().get::<TraceParent>().copied();
    known.unwrap_or_else(generate)
}

pub(crate) fn incoming(request: &ServiceRequest) -> Option<TraceParent> {
    let header = request.headers().get("traceparent")?;
    header.to_str().ok()?.parse().ok()
}

pub(crate) fn generate() -> TraceParent {
    let (span, _) = Uuid::new_v4().as_u64_pair();
    TraceParent::generate(Uuid::new_v4().as_u128(), span)
}
