//! Records that were passed over and are written into the event topic again.

use seckill_domain::Event;

use crate::produce::acks::Delivery;
use crate::produce::producer::{EventProducer, SendError};
use crate::wire::error::DecodeError;
use crate::wire::headers::Headers;
use crate::wire::record::Record;

/// The header that counts how often a record was redriven.
const REDRIVE_COUNT: &str = "seckill-redrive-count";

/// A record that was redriven and skipped again this often is not redriven any more.
const MAX_REDRIVES: u32 = 3;

/// Why a record is not written again.
#[derive(Debug, thiserror::Error)]
pub enum NotRedrivable {
    /// This version cannot read it either.
    #[error(transparent)]
    Unreadable(#[from] DecodeError),
    /// It was redriven and skipped again too often.
    #[error("it came back {MAX_REDRIVES} times")]
    CameBack,
}

/// A record as it is written into the event topic again: the same payload under the key of its sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redriven {
    record: Record,
    event: Event,
}

impl Redriven {
    /// Of a record of the event topic. Its key and its partition may have been wrong, and are not checked.
    ///
    /// # Errors
    /// [`NotRedrivable`].
    pub fn of(skipped: &Record) -> Result<Self, NotRedrivable> {
        let event = skipped.content()?;
        let redrives = skipped.redrives();
        if redrives >= MAX_REDRIVES {
            return Err(NotRedrivable::CameBack);
        }
        // Headers whose names cannot be read are left out.
        let headers = skipped.headers.iter().flatten();
        let headers: Headers = headers.filter(|(name, _)| *name != REDRIVE_COUNT).collect();
        let count = (redrives + 1).to_string();
        let record = Record {
            headers: headers.with(REDRIVE_COUNT, Some(count.as_bytes())),
            key: Some(event.voucher_id.to_string().into_bytes()),
            ..skipped.clone()
        };
        Ok(Self { record, event })
    }

    /// The event in it.
    #[must_use]
    pub const fn event(&self) -> &Event {
        &self.event
    }
}

impl Record {
    /// How often it was redriven before.
    #[must_use]
    pub fn redrives(&self) -> u32 {
        self.header(REDRIVE_COUNT).map_or(0, |value| {
            let number = str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            number.unwrap_or(u32::MAX)
        })
    }
}

impl EventProducer {
    /// Queues a record for the event topic once more. Its key determines its partition.
    ///
    /// # Errors
    /// [`SendError`]: it is not in the log again.
    pub fn send_again(&self, redriven: &Redriven) -> Result<Delivery, SendError> {
        self.send_copy(&self.topics().events, &redriven.record)
    }
}
