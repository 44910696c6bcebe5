//! A record's headers. This project writes `CloudEvents` in binary mode: the envelope is in the headers,
//! the payload is the record.

use std::fmt;

use rdkafka::message::{Header, Headers as _, OwnedHeaders};
use seckill_domain::{EventId, Timestamp, TraceParent};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::wire::guard::guarded;

/// The header that carries the trace.
pub const TRACEPARENT: &str = "traceparent";

/// What the names of the headers begin with that are added to a dead letter: `topic`, `partition`,
/// `offset`, `group` and `message` say where the record stood, who refused it, and why; `payload`,
/// `key` and `headers`, what of it was too large for the topic.
pub const DEAD_LETTER_HEADERS: &str = "__dlq.errors.";

const CONTENT_TYPE: &str = "application/avro";
const SPEC_VERSION: &str = "1.0";

/// The headers of a record, as they were written and in their order. Those of a copy are the same to the
/// last byte, also where a name is not UTF-8: such a header is passed on, and only its reading fails.
#[derive(Clone, Default)]
pub struct Headers(OwnedHeaders);

impl Headers {
    pub(crate) const fn from_client(headers: OwnedHeaders) -> Self {
        Self(headers)
    }

    /// A copy to add more to.
    pub(crate) fn to_client(&self) -> OwnedHeaders {
        self.0.clone()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and values; a value may be null, which is not the same as empty. None stands for a header
    /// whose name is not UTF-8.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Option<(&str, Option<&[u8]>)>> {
        (0..self.len()).map(|at| self.read(at))
    }

    /// The values of all headers of that name.
    pub fn named(&self, name: &str) -> impl DoubleEndedIterator<Item = Option<&[u8]>> {
        let of_name = move |(key, value)| (key == name).then_some(value);
        self.iter()
            .filter_map(move |header| header.and_then(of_name))
    }

    /// Adds one at the end.
    #[must_use]
    pub fn with(self, name: &str, value: Option<&[u8]>) -> Self {
        Self(self.0.insert(Header { key: name, value }))
    }

    /// The client's library has names as `&str` only, and panics on bytes that are none.
    fn read(&self, at: usize) -> Option<(&str, Option<&[u8]>)> {
        let header = guarded(|| self.0.try_get(at)).ok().flatten()?;
        Some((header.key, header.value))
    }
}

impl<'a> FromIterator<(&'a str, Option<&'a [u8]>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, Option<&'a [u8]>)>>(headers: I) -> Self {
        let add = |all: Self, (name, value)| all.with(name, value);
        headers.into_iter().fold(Self::default(), add)
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

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

/// One that is not sampled.
fn new_trace() -> TraceParent {
    let (random, span) = (Uuid::new_v4().as_u128(), Uuid::new_v4().as_u64_pair().1);
    TraceParent::generate(random, span).unsampled()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_null_value_is_not_an_empty_one() {
        let written: [(&str, Option<&[u8]>); 3] =
            [("a", Some(b"1")), ("empty", Some(b"")), ("a", None)];
        let headers: Headers = written.into_iter().collect();
        assert!(headers.iter().eq(written.map(Some)));
        assert!(headers.named("a").eq([Some(&b"1"[..]), None]));
        assert_ne!(headers, written[..2].iter().copied().collect());
        assert_eq!(headers.clone(), headers);
    }
}
