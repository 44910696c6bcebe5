//! A record as it was read from a topic.

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage};
use seckill_domain::{Event, Offset, TraceParent, partition_of};

use crate::error::DecodeError;
use crate::events::decode_event;
use crate::headers::{Headers, TRACEPARENT};

/// A record as it was read from a topic; nothing in it is checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: Offset,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its payload; none is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
    /// The topic's timestamp, in milliseconds since the Unix epoch.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    pub(crate) fn copy_of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(BorrowedHeaders::detach);
        Self {
            partition: message.partition(),
            offset: Offset::new(message.offset()),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: headers.map(Headers::from_client).unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }

    /// The event in a record of the event topic, which has `partitions` partitions. Its key has to
    /// be its voucher id, and its partition that key's: elsewhere it would be decided out of order.
    ///
    /// # Errors
    /// [`DecodeError`]: the record is one for the dead-letter topic.
    ///
    /// # Panics
    /// When `partitions` is not positive.
    pub fn event(&self, partitions: i32) -> Result<Event, DecodeError> {
        let (key, payload) = (self.key.as_deref(), self.payload.as_deref());
        decode_event_at(self.partition, partitions, key, payload)
    }

    /// The value of the first header of that name; none also where it is null.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.named(name).next().flatten()
    }

    /// The trace it belongs to, if its header holds one.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        str::from_utf8(self.header(TRACEPARENT)?).ok()?.parse().ok()
    }
}

/// [`Record::event`] of a record's parts, where they lie.
pub(crate) fn decode_event_at(
    partition: i32,
    partitions: i32,
    key: Option<&[u8]>,
    payload: Option<&[u8]>,
) -> Result<Event, DecodeError> {
    let event = decode_event(payload.ok_or(DecodeError::NoPayload)?)?;
    let expected = event.voucher_id.to_string();
    if key != Some(expected.as_bytes()) {
        return Err(DecodeError::WrongKey { expected });
    }
    let home = partition_of(expected.as_bytes(), partitions);
    if partition != home {
        return Err(DecodeError::WrongPartition {
            partition,
            expected: home,
        });
    }
    Ok(event)
}
