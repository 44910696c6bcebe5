//! A record as it was read from a topic.

use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage};
use seckill_domain::{
    Event, EventBody, Identity, LastRecord, LogBatch, Offset, OrderId, Timestamp, TraceParent,
    VoucherId, partition_of,
};
use sha2::{Digest, Sha256};

use crate::wire::error::DecodeError;
use crate::wire::events::decode_event;
use crate::wire::headers::{Headers, TRACEPARENT};
use crate::wire::ids::unknown_in;

/// Acks come within milliseconds, and the grace of an expiry is longer than this.
const NOTICEABLY_LATE_US: i64 = 1_000_000;

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

    /// The registry's id in its framing, where it is not known yet what that stands for.
    #[must_use]
    pub fn unknown_schema_id(&self) -> Option<u32> {
        unknown_in(self.payload.as_deref())
    }

    /// What is known of a record that the log no longer has: where it stood.
    #[must_use]
    pub fn without_content(partition: i32, offset: Offset) -> Self {
        Self {
            partition,
            offset,
            key: None,
            payload: None,
            headers: Headers::default(),
            timestamp_ms: None,
        }
    }

    /// The voucher that its key names, if it is one.
    #[must_use]
    pub fn voucher(&self) -> Option<VoucherId> {
        voucher_key(self.key.as_deref())
    }

    /// Records of one partition, ascending, as a batch. Every fold decodes them with this function.
    #[must_use]
    pub fn batch(records: &[Self], partitions: i32, to: Offset) -> LogBatch {
        let mut batch = LogBatch::ending_at(to);
        for record in records {
            let event = record.event(partitions);
            if let Some(late) = event.as_ref().ok().and_then(|event| record.late(event)) {
                batch.late.push((record.offset, late));
            }
            sort_into(&mut batch, record.offset, event);
        }
        batch.last = records.last().map(|record| LastRecord {
            offset: record.offset,
            identity: record.identity(),
        });
        batch
    }

    /// If this reserves an order, and the log took it noticeably later than it says it was made: until when
    /// it could be paid, had it been made then. The topic's timestamp is the broker's (`LogAppendTime`),
    /// that of the event Redis'.
    fn late(&self, event: &Event) -> Option<(OrderId, Timestamp)> {
        let EventBody::SeckillReserved(reserved) = &event.body else {
            return None;
        };
        let taken_us = self.timestamp_ms?.checked_mul(1_000)?;
        let late_us = taken_us.checked_sub(event.occurred_at.as_micros())?;
        let not_before = reserved.pay_by.as_micros().checked_add(late_us)?;
        let not_before = Timestamp::new(not_before).ok()?;
        (late_us > NOTICEABLY_LATE_US).then_some((reserved.order_id, not_before))
    }

    /// The event in a record of the event topic, which has `partitions` partitions. Its key has to
    /// be its voucher id, and its partition that key's: elsewhere it would be decided out of order.
    ///
    /// # Errors
    /// [`DecodeError`]: the record is malformed, unless [`DecodeError::is_not_known_yet`].
    ///
    /// # Panics
    /// When `partitions` is not positive.
    pub fn event(&self, partitions: i32) -> Result<Event, DecodeError> {
        let (key, payload) = (self.key.as_deref(), self.payload.as_deref());
        decode_event_at(self.partition, partitions, key, payload)
    }

    /// The event in its payload. Its key and its partition are not checked.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn content(&self) -> Result<Event, DecodeError> {
        decode_event(self.payload.as_deref().ok_or(DecodeError::NoPayload)?)
    }

    /// Distinguishes the record from any other: a hash of its key and its payload.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let mut hash = Sha256::new();
        for part in [self.key.as_deref(), self.payload.as_deref()] {
            // None differs from empty, and the lengths say where one part ends and the next begins.
            let length = part.map_or(-1, |p| i64::try_from(p.len()).unwrap_or(i64::MAX));
            hash.update(length.to_be_bytes());
            hash.update(part.unwrap_or_default());
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Identity::from_bytes(bytes)
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
    match decode_event(payload.ok_or(DecodeError::NoPayload)?) {
        Ok(event) => {
            let expected = event.voucher_id.to_string();
            if key != Some(expected.as_bytes()) {
                return Err(DecodeError::WrongKey { expected });
            }
            at_home(partition, partitions, expected.as_bytes())?;
            Ok(event)
        }
        // A version that knows the schema refuses a wrong key or partition too, so every version finds it malformed.
        Err(unknown) if unknown.is_not_known_yet() => {
            let key = voucher_key(key).ok_or(DecodeError::KeyOfNoVoucher)?;
            at_home(partition, partitions, key.to_string().as_bytes())?;
            Err(unknown)
        }
        Err(malformed) => Err(malformed),
    }
}

/// The voucher that a record's key names, as the producers write it.
fn voucher_key(key: Option<&[u8]>) -> Option<VoucherId> {
    let text = str::from_utf8(key?).ok()?;
    let voucher: VoucherId = text.parse().ok()?;
    (voucher.to_string() == text).then_some(voucher)
}

fn at_home(partition: i32, partitions: i32, key: &[u8]) -> Result<(), DecodeError> {
    let expected = partition_of(key, partitions);
    if partition == expected {
        return Ok(());
    }
    Err(DecodeError::WrongPartition {
        partition,
        expected,
    })
}

/// Adds what a record is to the list of a batch that it belongs into.
pub(crate) fn sort_into(batch: &mut LogBatch, offset: Offset, read: Result<Event, DecodeError>) {
    match read {
        Ok(event) => batch.events.push((offset, event)),
        Err(error) if error.is_not_known_yet() => batch.unknown.push((offset, error.to_string())),
        Err(error) => batch.malformed.push((offset, error.to_string())),
    }
}
