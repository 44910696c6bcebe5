//! Events made by requests.

use seckill_domain::{Event, EventBody, EventId, Timestamp, VoucherId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::problem::Problem;
use crate::reservations::PublishError;

/// An event of this moment, with a new id.
#[must_use]
pub fn now(voucher_id: VoucherId, body: EventBody) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id,
        occurred_at: timestamp_now(),
        body,
    }
}

/// This host's clock. Nothing is decided by it but what people are shown.
#[must_use]
pub fn timestamp_now() -> Timestamp {
    let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        Self::unavailable(
            "The request may not have been recorded: send it again, that does no harm.",
        )
        .because(error)
    }
}
