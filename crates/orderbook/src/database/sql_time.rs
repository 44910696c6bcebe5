//! The domain's timestamps as `timestamptz`: both count microseconds, from different years, so that
//! nothing is lost on the way. PostgreSQL has room for all of them; what it holds beyond their range,
//! no fold wrote.

use std::time::Duration;

use seckill_domain::Timestamp;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, Postgres};
use sqlx::types::time::OffsetDateTime;
use sqlx::{Decode, Encode, Type};

/// 2000-01-01 00:00:00 UTC, from which PostgreSQL counts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

#[derive(Debug, Clone, Copy)]
pub(crate) struct SqlTime(pub(crate) Timestamp);

impl Type<Postgres> for SqlTime {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl PgHasArrayType for SqlTime {
    fn array_type_info() -> PgTypeInfo {
        <OffsetDateTime as PgHasArrayType>::array_type_info()
    }
}

impl Encode<'_, Postgres> for SqlTime {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0.as_micros() - POSTGRES_EPOCH_US, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for SqlTime {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Postgres>>::decode(value)?.checked_add(POSTGRES_EPOCH_US);
        let micros = micros.ok_or("an infinite timestamp")?;
        Ok(Self(Timestamp::new(micros)?))
    }
}

/// As PostgreSQL's interval; what is longer than it can hold becomes its longest.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval {
        months: 0,
        days: 0,
        microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
    }
}
