//! Timestamps as RFC 3339 text, as requests and answers spell them.

use seckill_domain::Timestamp;
use serde::Serializer;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The years that [`parse`] takes, for the API's document: its own rule is in UTC.
pub const YEARS_PATTERN: &str = "^(19[7-9][0-9]|[2-9][0-9]{3})-";

/// In UTC, with as many digits of a second as there are.
///
/// # Panics
/// Does not happen: RFC 3339 can represent each of them.
#[must_use]
pub fn format(timestamp: Timestamp) -> String {
    let nanos = i128::from(timestamp.as_micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .expect("from 1970 to 9999")
}

/// Any offset from UTC is taken; what is finer than a microsecond is cut off. What counts is the
/// moment in UTC.
///
/// # Errors
/// A message that says what is expected.
pub fn parse(text: &str) -> Result<Timestamp, &'static str> {
    let moment = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "an RFC 3339 time, such as 2026-05-01T10:00:00Z")?;
    let micros = i64::try_from(moment.unix_timestamp_nanos().div_euclid(1000));
    micros
        .ok()
        .and_then(|micros| Timestamp::new(micros).ok())
        .ok_or("a time from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z")
}

/// For serde's `serialize_with`.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(timestamp: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&format(*timestamp))
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

    #[test]
    fn a_moment_is_from_1970_to_9999_in_utc_whatever_its_offset() {
        for (text, moment) in [
            ("1970-01-01T00:00:00Z", Timestamp::MIN),
            ("1970-01-01T01:00:00+01:00", Timestamp::MIN),
            ("1969-12-31T23:00:00-01:00", Timestamp::MIN),
            ("9999-12-31T23:59:59.999999999Z", Timestamp::MAX),
        ] {
            assert_eq!(parse(text), Ok(moment), "{text}");
        }
        for moment in [Timestamp::MIN, Timestamp::MAX] {
            assert_eq!(parse(&format(moment)), Ok(moment));
        }
        for bad in [
            "0001-01-01T00:00:00Z",
            "1969-12-31T23:59:59.999999Z",
            "1970-01-01T00:30:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
