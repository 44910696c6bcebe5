//! Timestamps as RFC 3339 text, as requests and answers spell them.

use seckill_domain::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de::Error};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// In UTC, with as many digits of a second as there are.
#[must_use]
pub fn format(timestamp: Timestamp) -> String {
    let nanos = i128::from(timestamp.as_micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        // A year beyond 9999 has no text; no request can name one, see `parse`.
        .unwrap_or_else(|| "9999-12-31T23:59:59Z".to_owned())
}

/// Any offset from UTC is taken; what is finer than a microsecond is cut off.
///
/// # Errors
/// A message that says what is expected.
pub fn parse(text: &str) -> Result<Timestamp, &'static str> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "an RFC 3339 time, such as 2026-05-01T10:00:00Z")?;
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1000))
        .map(Timestamp::from_micros)
        .map_err(|_| "a time between the years 0 and 9999")
}

/// For serde's `serialize_with`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(timestamp: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*timestamp))
}

/// For serde's `deserialize_with`.
///
/// # Errors
/// When the text is no RFC 3339 time.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(|expected| D::Error::custom(format!("expected {expected}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_and_offsets_survive() {
        let moment = parse("2026-05-01T12:00:00.123456+02:00").unwrap();
        assert_eq!(format(moment), "2026-05-01T10:00:00.123456Z");
        assert_eq!(parse(&format(moment)), Ok(moment));
        for bad in ["", "2026-05-01", "tomorrow", "2026-13-01T00:00:00Z"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
