//! The log that a partition was folded from is lost, and its view has to continue with another one. Decisions
//! stay as they are: the loss of a log does not change who has paid. Only their offsets are lost.

use seckill_domain::{LastRecord, LogRef, Offset, Timestamp, VoucherId, partition_of};
use sqlx::{FromRow, PgExecutor};

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, LONGEST};
use crate::database::error::OrderbookError;
use crate::database::rows::voucher_id;
use crate::database::sql_time::SqlTime;
use crate::fold::book_snapshot::BookSnapshot;
use crate::fold::positions::FoldPosition;

/// The position from which a partition's view reads another log.
#[derive(Debug, Clone, Copy)]
pub struct AcceptLog<'a> {
    /// The event topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: i32,
    /// How many partitions the topic has.
    pub partitions: i32,
    /// Where the fold, and the effects, have to stand for this to be done.
    pub stands: FoldPosition,
    /// The first offset at which the log may have another record than was folded.
    pub from: Offset,
    /// The last record below that, by which the fold is to recognise the log.
    pub last: Option<LastRecord>,
}

/// A log that a partition's view was made to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedLog {
    /// The partition.
    pub partition: i32,
    /// 1 for the first, and which offsets it has lost with those before it.
    pub log: LogRef,
    /// From here on it is another log.
    pub from: Offset,
    /// Where the fold stood.
    pub stood_at: Offset,
    /// When.
    pub accepted_at: Timestamp,
}

/// Rows whose records a log does not have any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct LostRecords {
    /// Sales that were put up, or closed.
    pub sales: i64,
    /// Orders that were reserved or rejected.
    pub reserved: i64,
    /// Orders that were paid.
    pub paid: i64,
    /// Orders that expired or were cancelled.
    pub released: i64,
    /// Refunds that became due.
    pub refunds: i64,
    /// Changes of stock.
    pub adjustments: i64,
    /// Records that were passed over.
    pub skipped: i64,
}

impl LostRecords {
    /// How many there are of all kinds.
    #[must_use]
    pub const fn count(&self) -> i64 {
        self.sales
            + self.reserved
            + self.paid
            + self.released
            + self.refunds
            + self.adjustments
            + self.skipped
    }
}

#[derive(FromRow)]
struct RawAccepted {
    partition: i32,
    number: i32,
    from_offset: i64,
    stood_at: i64,
    lost_offsets: i64,
    accepted_at: SqlTime,
}

impl From<RawAccepted> for AcceptedLog {
    fn from(row: RawAccepted) -> Self {
        Self {
            partition: row.partition,
            log: LogRef {
                number: row.number,
                lost_offsets: row.lost_offsets,
            },
            from: Offset::new(row.from_offset),
            stood_at: Offset::new(row.stood_at),
            accepted_at: row.accepted_at.0,
        }
    }
}

impl Orderbook {
    /// All logs that views of `topic` were made to accept, by partition and number.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accepted_logs(&self, topic: &str) -> Result<Vec<AcceptedLog>, OrderbookError> {
        Ok(accepted(&self.pool, topic).await?)
    }

    /// What the rows have from records at `from` or behind it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn records_from(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
    ) -> Result<LostRecords, OrderbookError> {
        let lost = sqlx::query_as(
            r#"SELECT
               (SELECT count(*) FROM vouchers WHERE partition = $2 AND scheduled_offset >= $3)
                 + (SELECT count(*) FROM vouchers WHERE partition = $2 AND closed_offset >= $3)
                 AS sales,
               (SELECT count(*) FROM orders WHERE partition = $2 AND reserved_offset >= $3)
                 AS reserved,
               (SELECT count(*) FROM orders
                 WHERE partition = $2 AND closed_offset >= $3 AND status = 'paid') AS paid,
               (SELECT count(*) FROM orders
                 WHERE partition = $2 AND closed_offset >= $3 AND status <> 'paid') AS released,
               (SELECT count(*) FROM refunds WHERE partition = $2 AND "offset" >= $3) AS refunds,
               (SELECT count(*) FROM stock_adjustments WHERE partition = $2 AND "offset" >= $3)
                 AS adjustments,
               (SELECT count(*) FROM skipped_records
                 WHERE topic = $1 AND partition = $2 AND "offset" >= $3) AS skipped"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(from.get())
        .fetch_one(&self.pool)
        .await?;
        Ok(lost)
    }

    /// Has the view of a partition go on with another log, in one transaction: rows of records that are lost
    /// go below offset 0, fold and effects to `from`, and nobody who has read the log of before can move
    /// them. False, and nothing is done, where fold or effects stand elsewhere than was said.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accept_log(
        &self,
        accept: &AcceptLog<'_>,
        entry: AuditEntry<'_>,
    ) -> Result<bool, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        transaction.takes_up_to(LONGEST).await?;
        if !stand_there(&mut transaction, accept).await? {
            return Ok(false);
        }
        let lost: Option<i64> = sqlx::query_scalar(
            "SELECT max(lost_offsets) FROM accepted_logs WHERE topic = $1 AND partition = $2",
        )
        .bind(accept.topic)
        .bind(accept.partition)
        .fetch_one(&mut *transaction)
        .await?;
        let (lost_before, stood_at) = (lost.unwrap_or(0), accept.stands.next.get());
        let lost_now = (stood_at - accept.from.get()).max(0);
        // The last of the lost records goes below the first of those that were lost before.
        move_down(&mut transaction, accept, stood_at + lost_before).await?;
        sqlx::query(
            "INSERT INTO accepted_logs
                    (topic, partition, number, from_offset, stood_at, lost_offsets)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(accept.topic)
        .bind(accept.partition)
        .bind(accept.stands.log_number + 1)
        .bind(accept.from.get())
        .bind(stood_at)
        .bind(lost_before + lost_now)
        .execute(&mut *transaction)
        .await?;
        move_positions(&mut transaction, accept).await?;
        insert_audit(&mut transaction, entry).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

impl BookSnapshot {
    /// See [`Orderbook::accepted_logs`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accepted_logs(&mut self, topic: &str) -> Result<Vec<AcceptedLog>, OrderbookError> {
        Ok(accepted(&mut *self.transaction, topic).await?)
    }
}

async fn accepted(
    executor: impl PgExecutor<'_>,
    topic: &str,
) -> Result<Vec<AcceptedLog>, sqlx::Error> {
    let rows: Vec<RawAccepted> = sqlx::query_as(
        "SELECT partition, number, from_offset, stood_at, lost_offsets, accepted_at
           FROM accepted_logs WHERE topic = $1 ORDER BY partition, number",
    )
    .bind(topic)
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(AcceptedLog::from).collect())
}

/// Locks both positions, as the fold does first of all.
async fn stand_there(
    connection: &mut Connection,
    accept: &AcceptLog<'_>,
) -> Result<bool, sqlx::Error> {
    let stands: Vec<(i64, i32)> = sqlx::query_as(
        "SELECT next_offset, log_number FROM view_positions
          WHERE topic = $1 AND partition = $2 ORDER BY view DESC FOR UPDATE",
    )
    .bind(accept.topic)
    .bind(accept.partition)
    .fetch_all(connection)
    .await?;
    let expected = (accept.stands.next.get(), accept.stands.log_number);
    Ok(stands.len() == 2 && stands.iter().all(|stand| *stand == expected))
}

/// Takes `by` off the offsets of all rows whose records are lost. Records that were passed over are nothing
/// without their records: their dead letters stay.
async fn move_down(
    connection: &mut Connection,
    accept: &AcceptLog<'_>,
    by: i64,
) -> Result<(), OrderbookError> {
    let two = |table: &str, first: &str| {
        format!(
            "UPDATE {table}
                SET {first} = {first} - CASE WHEN {first} >= $2 THEN $3 ELSE 0 END,
                    closed_offset = closed_offset - CASE WHEN closed_offset >= $2 THEN $3 ELSE 0 END
              WHERE partition = $1 AND ({first} >= $2 OR closed_offset >= $2)"
        )
    };
    let one = |table: &str| {
        format!(
            r#"UPDATE {table} SET "offset" = "offset" - $3 WHERE partition = $1 AND "offset" >= $2"#
        )
    };
    for sql in [
        two("vouchers", "scheduled_offset"),
        two("orders", "reserved_offset"),
        one("refunds"),
        one("stock_adjustments"),
    ] {
        sqlx::query(&sql)
            .bind(accept.partition)
            .bind(accept.from.get())
            .bind(by)
            .execute(&mut *connection)
            .await?;
    }
    let own = reloaded_here(connection, accept).await?;
    sqlx::query(
        r#"UPDATE sale_reloads SET "offset" = "offset" - $3
            WHERE voucher_id = ANY($1) AND "offset" >= $2"#,
    )
    .bind(own)
    .bind(accept.from.get())
    .bind(by)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        r#"DELETE FROM skipped_records WHERE topic = $1 AND partition = $2 AND "offset" >= $3"#,
    )
    .bind(accept.topic)
    .bind(accept.partition)
    .bind(accept.from.get())
    .execute(connection)
    .await?;
    Ok(())
}

/// Sales of the partition that have reloads to be moved. Reloads don't name their partition, and may be of a
/// sale that there is no row of.
async fn reloaded_here(
    connection: &mut Connection,
    accept: &AcceptLog<'_>,
) -> Result<Vec<i64>, OrderbookError> {
    let reloaded: Vec<(i64, Option<i32>)> = sqlx::query_as(
        r#"SELECT DISTINCT voucher_id, partition FROM sale_reloads LEFT JOIN vouchers USING (voucher_id)
            WHERE "offset" >= $1"#,
    )
    .bind(accept.from.get())
    .fetch_all(connection)
    .await?;
    let mut own = Vec::new();
    for (id, partition) in reloaded {
        let voucher: VoucherId = voucher_id(id, "sale_reloads")?;
        let by_key = || partition_of(voucher.to_string().as_bytes(), accept.partitions);
        if partition.unwrap_or_else(by_key) == accept.partition {
            own.push(id);
        }
    }
    Ok(own)
}

async fn move_positions(
    connection: &mut Connection,
    accept: &AcceptLog<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE view_positions
            SET next_offset = $3, log_number = log_number + 1, skip_decisions = skip_decisions + 1,
                last_offset = CASE view WHEN 'orders' THEN $4 END,
                last_identity = CASE view WHEN 'orders' THEN $5 END
          WHERE topic = $1 AND partition = $2",
    )
    .bind(accept.topic)
    .bind(accept.partition)
    .bind(accept.from.get())
    .bind(accept.last.map(|last| last.offset.get()))
    .bind(accept.last.map(|last| last.identity.as_bytes().to_vec()))
    .execute(connection)
    .await?;
    Ok(())
}
