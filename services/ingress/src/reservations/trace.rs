//! Traces on their way through Redis. The stock crate has a `traceparent` type of its own, which
//! takes and gives the same texts.

use seckill_domain::TraceParent;

/// As the outbox keeps it.
pub(super) fn into_outbox(trace: TraceParent) -> Option<seckill_stock::TraceParent> {
    trace.as_str().parse().ok()
}

/// As it came out of the outbox.
pub(super) fn from_outbox(trace: Option<seckill_stock::TraceParent>) -> Option<TraceParent> {
    trace.and_then(|trace| trace.as_str().parse().ok())
}
