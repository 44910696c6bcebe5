//! Dead letters: copies of the records that no fold takes.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::produce::producer::{Delivered, DeliveryError, EventProducer, SendError};
use crate::wire::headers::{Headers, text};
use crate::wire::record::Record;

/// A record that is smaller than this fits into any dead-letter topic. If it is refused for its size, it was
/// in a batch with a larger one.
const SMALL_BYTES: usize = 64 * 1024;

/// The longest cause. It is a text for people, and may quote data of the record.
const CAUSE_MAX_CHARS: usize = 1_000;

/// A record that could not be decoded or applied, and why.
#[derive(Debug, Clone)]
pub struct DeadLetter<'a> {
    /// The record; bytes, key and headers go along untouched.
    pub record: &'a Record,
    /// What was wrong with it.
    pub cause: String,
    /// The consumer group that refused it.
    pub group: &'a str,
}

/// Why there is no ack of a dead letter. It is to be sent again.
#[derive(Debug, thiserror::Error)]
pub enum DeadLetterError {
    /// It was not taken.
    #[error(transparent)]
    NotSent(#[from] SendError),
    /// It was taken and not acknowledged: it may be in the topic or not.
    #[error(transparent)]
    NotDelivered(#[from] DeliveryError),
}

impl DeadLetterError {
    fn is_of_size(&self) -> bool {
        let (Self::NotSent(SendError::Refused(error))
        | Self::NotDelivered(DeliveryError::Failed(error))) = self
        else {
            return false;
        };
        let code = KafkaError::rdkafka_error_code(error);
        matches!(
            code,
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge)
        )
    }
}

/// Which parts of its record a dead letter has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    WithoutPayload,
    PlaceAndCause,
}

impl EventProducer {
    /// Writes a record of the event topic into the dead-letter topic, as it is, with headers that say
    /// where it stood and what was wrong, and waits for the ack. Of a record that is too large for that
    /// topic only key and headers are written, and if these are too large nothing of it: the header
    /// `__dlq.errors.payload` (`.key`, `.headers`) then says what was left out. The record itself is
    /// still in the log.
    ///
    /// # Errors
    /// [`DeadLetterError`]: send it again.
    pub async fn send_dead_letter(
        &self,
        letter: &DeadLetter<'_>,
    ) -> Result<Delivered, DeadLetterError> {
        let extents = if letter.record.bytes() < SMALL_BYTES {
            // This time the larger one is not in its batch.
            [Extent::Whole; 3]
        } else {
            [Extent::Whole, Extent::WithoutPayload, Extent::PlaceAndCause]
        };
        let [first, rest @ ..] = extents;
        let mut sent = self.write_letter(letter, first).await;
        for extent in rest {
            match &sent {
                Err(error) if error.is_of_size() => {
                    let (partition, offset) = (letter.record.partition, letter.record.offset.get());
                    tracing::warn!(partition, offset, %error, ?extent, "too large for a dead letter");
                }
                _ => break,
            }
            sent = self.write_letter(letter, extent).await;
        }
        sent
    }

    async fn write_letter(
        &self,
        letter: &DeadLetter<'_>,
        extent: Extent,
    ) -> Result<Delivered, DeadLetterError> {
        let original = letter.record;
        let copied = match extent {
            Extent::Whole | Extent::WithoutPayload => original.headers.to_client(),
            Extent::PlaceAndCause => OwnedHeaders::new(),
        };
        let topics = self.topics();
        let headers = self.letter_headers(copied, letter, extent);
        let mut record = FutureRecord::to(&topics.dead_letters).headers(headers);
        record.key = original.key.as_deref();
        record.payload = original.payload.as_deref();
        if extent != Extent::Whole {
            record.payload = None;
        }
        if extent == Extent::PlaceAndCause {
            record.key = None;
        }
        Ok(self.send(record)?.await?)
    }

    fn letter_headers(
        &self,
        copied: OwnedHeaders,
        letter: &DeadLetter<'_>,
        extent: Extent,
    ) -> OwnedHeaders {
        let original = letter.record;
        let cause: String = letter.cause.chars().take(CAUSE_MAX_CHARS).collect();
        let headers = copied
            .insert(text("__dlq.errors.topic", &self.topics().events))
            .insert(text(
                "__dlq.errors.partition",
                &original.partition.to_string(),
            ))
            .insert(text(
                "__dlq.errors.offset",
                &original.offset.get().to_string(),
            ))
            .insert(text("__dlq.errors.group", letter.group))
            .insert(text("__dlq.errors.message", &cause));
        if extent == Extent::Whole {
            return headers;
        }
        let omitted = |bytes: &Option<Vec<u8>>| {
            let bytes = bytes.as_ref()?;
            Some(format!("omitted: {} bytes", bytes.len()))
        };
        let headers = noted(headers, "__dlq.errors.payload", omitted(&original.payload));
        if extent == Extent::WithoutPayload {
            return headers;
        }
        let headers = noted(headers, "__dlq.errors.key", omitted(&original.key));
        let count = format!("omitted: {} headers", original.headers.len());
        headers.insert(text("__dlq.errors.headers", &count))
    }
}

fn noted(headers: OwnedHeaders, name: &str, note: Option<String>) -> OwnedHeaders {
    match note {
        Some(note) => headers.insert(Header {
            key: name,
            value: Some(&note),
        }),
        None => headers,
    }
}

impl Record {
    /// What it takes up in a batch, roughly. A header whose name cannot be read counts as a large one.
    fn bytes(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let header = |header: Option<(&str, Option<&[u8]>)>| match header {
            Some((name, value)) => name.len() + length(value),
            None => SMALL_BYTES,
        };
        let headers: usize = Headers::iter(&self.headers).map(header).sum();
        length(self.key.as_deref()) + length(self.payload.as_deref()) + headers
    }
}
