//! Events made by requests.

use seckill_domain::{Event, EventBody, EventId, Timestamp, VoucherId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::http::problem::{FieldError, Problem};

/// An event of this moment, with a new id.
///
/// # Errors
/// `invalid-request`, with the member that no reader of the log would take.
pub fn now(voucher_id: VoucherId, body: EventBody) -> Result<Event, Problem> {
    with_id(EventId::from_uuid(Uuid::now_v7()), voucher_id, body)
}

/// The same with an id that is known already.
///
/// # Errors
/// As [`now`].
pub fn with_id(
    event_id: EventId,
    voucher_id: VoucherId,
    body: EventBody,
) -> Result<Event, Problem> {
    Event::new(event_id, voucher_id, timestamp_now(), body)
        .map_err(|error| Problem::invalid_fields(&[FieldError::new(error.field, error.problem)]))
}

/// This host's clock. Nothing is decided by it but what people are shown.
#[must_use]
pub fn timestamp_now() -> Timestamp {
    let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
