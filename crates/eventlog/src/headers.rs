//! CloudEvents in binary mode: the envelope is in the headers, the payload is the record.

use rdkafka::message::{Header, OwnedHeaders};
use seckill_domain::{EventId, Timestamp, TraceParent};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// The header that carries the trace.
pub const TRACEPARENT: &str = "traceparent";

/// What the names of the headers begin with that are added to a dead letter: `topic`, `partition`,
/// `offset`, `group` and `message` say where the record stood, who refused it, and why.
pub const DEAD_LETTER_HEADERS: &str = "__dlq.errors.";

const CONTENT_TYPE: &str = "application/avro";
const SPEC_VERSION: &str = "1.0";

/// What the headers say of a record.
pub(crate) struct Envelope<'a> {
    pub(crate) id: EventId,
    pub(crate) record: &'static str,
    pub(crate) source: &'a str,
    pub(crate) occurred_at: Timestamp,
    pub(crate) trace: Option<TraceParent>,
}

impl Envelope<'_> {
    pub(crate) fn headers(&self) -> OwnedHeaders {
        let trace = self.trace.unwrap_or_else(new_trace);
        let headers = OwnedHeaders::new_with_capacity(7)
            .insert(text("ce_specversion", SPEC_VERSION))
            .insert(text("ce_id", &self.id.to_string()))
            .insert(text("ce_type", &format!("seckill.v1.{}", self.record)))
            .insert(text("ce_source", self.source))
            .insert(text("content-type", CONTENT_TYPE))
            .insert(text(TRACEPARENT, trace.as_str()));
        // Absent only for a moment that no calendar has; CloudEvents makes the time optional.
        match rfc3339(self.occurred_at) {
            Some(time) => headers.insert(text("ce_time", &time)),
            None => headers,
        }
    }
}

/// A header with a text.
pub(crate) fn text<'a>(key: &'a str, value: &'a str) -> Header<'a, &'a str> {
    Header {
        key,
        value: Some(value),
    }
}

fn rfc3339(at: Timestamp) -> Option<String> {
    let nanos = i128::from(at.as_micros()) * 1_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    time.format(&Rfc3339).ok()
}

fn new_trace() -> TraceParent {
    let (random, span) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u64_pair().1);
    TraceParent::generate(random, span)
}
