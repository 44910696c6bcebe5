//! The trace of a request.

use std::time::{Duration, SystemTime};

use actix_web::dev::ServiceRequest;
use actix_web::http::StatusCode;
use actix_web::{HttpMessage, HttpRequest};
use seckill_domain::TraceParent;
use seckill_service::traces::{self, Kind, Span};

/// The trace that [`crate::middleware::observe`] gave this request.
#[must_use]
pub fn trace_of(request: &HttpRequest) -> TraceParent {
    let known = request.extensions().get::<TraceParent>().copied();
    known.unwrap_or_else(traces::begin)
}

pub(crate) fn incoming(request: &ServiceRequest) -> Option<TraceParent> {
    let header = request.headers().get("traceparent")?;
    header.to_str().ok()?.parse().ok()
}

/// The span of a request that was answered a moment ago. `failure` is why it was not served as it should
/// have been.
pub(crate) fn end(
    (trace, parent): (TraceParent, Option<TraceParent>),
    (request, route): (&HttpRequest, &str),
    status: StatusCode,
    took: Duration,
    failure: Option<&str>,
) {
    if !traces::wants(trace) && failure.is_none() {
        return;
    }
    let name = format!("{} {route}", request.method());
    let began = SystemTime::now() - took;
    let span = Span::new(name, Kind::Server, trace, parent, began)
        .with("http.request.method", request.method().to_string())
        .with("http.route", route.to_owned())
        .with("http.response.status_code", i64::from(status.as_u16()));
    match failure {
        Some(why) => span.failed(why).end(),
        None => span.end(),
    }
}
