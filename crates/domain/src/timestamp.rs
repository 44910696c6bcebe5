//! Moments that every store, and RFC 3339, can hold.

/// A moment from 1970 to 9999 in UTC, in microseconds since the Unix epoch (Avro's
/// `timestamp-micros`). Logs, PostgreSQL and RFC 3339 can all hold each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a number of microseconds is no [`Timestamp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time is from 1970-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z")]
pub struct TimestampError;

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const MIN: Self = Self(0);

    /// 9999-12-31T23:59:59.999999Z: the last year that RFC 3339 can write.
    pub const MAX: Self = Self(253_402_300_799_999_999);

    /// Checks the range. For everything that comes from outside: requests, records, rows.
    ///
    /// # Errors
    /// [`TimestampError`] before [`Self::MIN`] and after [`Self::MAX`].
    pub const fn new(micros: i64) -> Result<Self, TimestampError> {
        if micros >= Self::MIN.0 && micros <= Self::MAX.0 {
            Ok(Self(micros))
        } else {
            Err(TimestampError)
        }
    }

    /// The moment in the range that is nearest to `micros`. Only for clocks and constants: a value from
    /// outside has to be refused, not changed, so use [`Self::new`] for it.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::MIN.0 {
            Self::MIN
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_from_1970_to_9999() {
        for (micros, nearest) in [
            (i64::MIN, Timestamp::MIN),
            (-1, Timestamp::MIN),
            (Timestamp::MAX.0 + 1, Timestamp::MAX),
            (i64::MAX, Timestamp::MAX),
        ] {
            assert_eq!(Timestamp::new(micros), Err(TimestampError), "{micros}");
            assert_eq!(Timestamp::from_micros(micros), nearest, "{micros}");
        }
        for micros in [0, 1, Timestamp::MAX.0] {
            let moment = Timestamp::new(micros).unwrap();
            assert_eq!(moment.as_micros(), micros);
            assert_eq!(Timestamp::from_micros(micros), moment);
        }
    }
}
