//! Records that the fold has skipped, or that an operator has decided about.

use seckill_domain::{EventId, Offset};
use uuid::Uuid;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;

/// What operators did about a record that was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipFate {
    /// It was written into the event topic again.
    Redriven,
    /// It was exported and given up.
    Discarded,
}

impl SkipFate {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Redriven, Self::Discarded];

    /// As the table and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
        }
    }
}

/// A row of `skipped_records`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRecord {
    /// Its partition.
    pub partition: i32,
    /// Where it stands.
    pub offset: Offset,
    /// Why it is passed over.
    pub cause: String,
    /// The event by which an operator decided so; none where the record is malformed.
    pub decided_by: Option<EventId>,
    /// Whether that event is known to be in the log. Until then the fold waits.
    pub in_log: bool,
    /// What was done about it since.
    pub fate: Option<SkipFate>,
}

impl Orderbook {
    /// All records of `topic` that were passed over or will be, by partition and offset.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn skipped_records(&self, topic: &str) -> Result<Vec<SkippedRecord>, OrderbookError> {
        let rows: Vec<RawSkipped> = sqlx::query_as(
            r#"SELECT partition, "offset", cause, decided_by, in_log, fate FROM skipped_records
                WHERE topic = $1 ORDER BY partition, "offset""#,
        )
        .bind(topic)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(SkippedRecord::try_from).collect()
    }

    /// At most `limit` of them, first those that nobody has dealt with, of these the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn newest_skipped_records(
        &self,
        topic: &str,
        limit: u32,
    ) -> Result<Vec<SkippedRecord>, OrderbookError> {
        let rows: Vec<RawSkipped> = sqlx::query_as(
            r#"SELECT partition, "offset", cause, decided_by, in_log, fate FROM skipped_records
                WHERE topic = $1 ORDER BY fate IS NOT NULL, "offset" DESC, partition LIMIT $2"#,
        )
        .bind(topic)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(SkippedRecord::try_from).collect()
    }

    /// One of them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn skipped_record(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
    ) -> Result<Option<SkippedRecord>, OrderbookError> {
        let row: Option<RawSkipped> = sqlx::query_as(
            r#"SELECT partition, "offset", cause, decided_by, in_log, fate FROM skipped_records
                WHERE topic = $1 AND partition = $2 AND "offset" = $3"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(offset.get())
        .fetch_optional(&self.pool)
        .await?;
        row.map(SkippedRecord::try_from).transpose()
    }

    /// How many of them nobody has dealt with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open_skipped_records(&self, topic: &str) -> Result<u64, OrderbookError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM skipped_records WHERE topic = $1 AND fate IS NULL",
        )
        .bind(topic)
        .fetch_one(&self.pool)
        .await?;
        Ok(count.unsigned_abs())
    }

    /// Notes what was done about skipped records, and the command that did it: both or neither. What was
    /// done about one before stays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_fate(
        &self,
        topic: &str,
        records: &[(i32, Offset)],
        fate: SkipFate,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) =
            records.iter().map(|(p, o)| (*p, o.get())).unzip();
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            r#"UPDATE skipped_records AS s SET fate = $4
                 FROM unnest($2::integer[], $3::bigint[]) AS r (partition, "offset")
                WHERE s.topic = $1 AND s.partition = r.partition AND s."offset" = r."offset"
                  AND s.fate IS NULL"#,
        )
        .bind(topic)
        .bind(partitions)
        .bind(offsets)
        .bind(fate.as_str())
        .execute(&mut *transaction)
        .await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}

#[derive(sqlx::FromRow)]
struct RawSkipped {
    partition: i32,
    offset: i64,
    cause: String,
    decided_by: Option<Uuid>,
    in_log: bool,
    fate: Option<String>,
}

impl TryFrom<RawSkipped> for SkippedRecord {
    type Error = OrderbookError;

    fn try_from(row: RawSkipped) -> Result<Self, OrderbookError> {
        let fate = |text: String| {
            let known = SkipFate::ALL.into_iter().find(|f| f.as_str() == text);
            known.ok_or(OrderbookError::Row {
                table: "skipped_records",
                column: "fate",
            })
        };
        Ok(Self {
            partition: row.partition,
            offset: Offset::new(row.offset),
            cause: row.cause,
            decided_by: row.decided_by.map(EventId::from_uuid),
            in_log: row.in_log,
            fate: row.fate.map(fate).transpose()?,
        })
    }
}

/// Notes the malformed records of a batch, in the transaction that moves the position past them.
pub(crate) async fn insert_malformed(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    malformed: &[(Offset, String)],
) -> Result<(), sqlx::Error> {
    if malformed.is_empty() {
        return Ok(());
    }
    let (offsets, causes): (Vec<i64>, Vec<&str>) = malformed
        .iter()
        .map(|(at, cause)| (at.get(), cause.as_str()))
        .unzip();
    sqlx::query(
        r#"INSERT INTO skipped_records (topic, partition, "offset", cause)
           SELECT $1, $2, * FROM unnest($3::bigint[], $4::text[]) ON CONFLICT DO NOTHING"#,
    )
    .bind(topic)
    .bind(partition)
    .bind(offsets)
    .bind(causes)
    .execute(connection)
    .await?;
    Ok(())
}

/// What of a range of a partition was passed over, for the dead letters: at most `limit`, ascending.
pub(crate) async fn skipped_in(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    (from, to): (Offset, Offset),
    limit: i64,
) -> Result<Vec<SkippedRecord>, OrderbookError> {
    let rows: Vec<RawSkipped> = sqlx::query_as(
        r#"SELECT partition, "offset", cause, decided_by, in_log, fate FROM skipped_records
            WHERE topic = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4
            ORDER BY "offset" LIMIT $5"#,
    )
    .bind(topic)
    .bind(partition)
    .bind(from.get())
    .bind(to.get())
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.into_iter().map(SkippedRecord::try_from).collect()
}
