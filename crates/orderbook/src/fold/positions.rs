//! The position of each view of the log.

use std::collections::HashMap;

use seckill_domain::{Identity, LastRecord, LogBatch, Offset};

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::{ApplyError, OrderbookError};
use crate::fold::skip_decisions::SkipDecisions;

/// The position of the fold of one partition; the beginning if it has not run yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FoldPosition {
    /// Where it continues.
    pub next: Offset,
    /// The last record that it has folded, by which it recognises its log; none if it has folded none.
    pub last: Option<LastRecord>,
    /// How many other logs it has accepted.
    pub log_number: i32,
}

/// A view with a position of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// The fold: what is decided and stored.
    Orders,
    /// The effects: what is carried out in Redis and published.
    Effects,
}

impl View {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Effects => "effects",
        }
    }
}

impl Orderbook {
    /// Where `view` continues in each of `partitions`, in their order; 0 if it has not run yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn positions(
        &self,
        topic: &str,
        partitions: &[i32],
        view: View,
    ) -> Result<Vec<(i32, Offset)>, OrderbookError> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            "SELECT partition, next_offset FROM view_positions
              WHERE view = $1 AND topic = $2 AND partition = ANY($3)",
        )
        .bind(view.as_str())
        .bind(topic)
        .bind(partitions)
        .fetch_all(&self.pool)
        .await?;
        let known: HashMap<i32, i64> = rows.into_iter().collect();
        let position = |partition| Offset::new(known.get(&partition).copied().unwrap_or(0));
        Ok(partitions.iter().map(|&p| (p, position(p))).collect())
    }

    /// The position of the fold in each of `partitions`, in their order.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn fold_positions(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<Vec<(i32, FoldPosition)>, OrderbookError> {
        let rows: Vec<RawPosition> = sqlx::query_as(
            "SELECT partition, next_offset, last_offset, last_identity, log_number FROM view_positions
              WHERE view = 'orders' AND topic = $1 AND partition = ANY($2)",
        )
        .bind(topic)
        .bind(partitions)
        .fetch_all(&self.pool)
        .await?;
        let mut known = HashMap::new();
        for row in rows {
            known.insert(row.partition, FoldPosition::try_from(row)?);
        }
        let position = |p: &i32| (*p, known.get(p).copied().unwrap_or_default());
        Ok(partitions.iter().map(position).collect())
    }

    /// Stores that all effects below `to` are carried out, of the log with that number. It never moves back, nor
    /// in another log, so that a late call of a projector that has lost the partition changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn move_effects(
        &self,
        topic: &str,
        partition: i32,
        to: Offset,
        log_number: i32,
    ) -> Result<(), OrderbookError> {
        sqlx::query(
            "INSERT INTO view_positions AS p (view, topic, partition, next_offset, log_number)
             VALUES ('effects', $1, $2, $3, $4)
             ON CONFLICT (view, topic, partition)
             DO UPDATE SET next_offset = excluded.next_offset
                     WHERE p.next_offset < excluded.next_offset
                       AND p.log_number = excluded.log_number",
        )
        .bind(topic)
        .bind(partition)
        .bind(to.get())
        .bind(log_number)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl Orderbook {
    /// Whether a process of this application name has a connection to the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_connected(&self, application_name: &str) -> Result<bool, OrderbookError> {
        let connected = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = $1)",
        )
        .bind(application_name)
        .fetch_one(&self.pool)
        .await?;
        Ok(connected)
    }

    /// Moves the effects of these partitions back to `to`, so that they are carried out again from
    /// there, and notes it in the operators' audit. Only while no projector runs: one that does keeps
    /// its own position, and would move this one forward again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reset_effects(
        &self,
        topic: &str,
        partitions: &[i32],
        to: Offset,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "UPDATE view_positions SET next_offset = $3
              WHERE view = 'effects' AND topic = $1 AND partition = ANY($2) AND next_offset > $3",
        )
        .bind(topic)
        .bind(partitions)
        .bind(to.get())
        .execute(&mut *transaction)
        .await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}

/// The fold's position; 0 where it never was.
pub(crate) async fn fold_position(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> Result<Offset, sqlx::Error> {
    let (position, _) = position_in_log(connection, topic, partition).await?;
    Ok(position)
}

/// The fold's position, and the number of the log that it is one in.
pub(crate) async fn position_in_log(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> Result<(Offset, i32), sqlx::Error> {
    let row: Option<(i64, i32)> = sqlx::query_as(
        "SELECT next_offset, log_number FROM view_positions
          WHERE view = 'orders' AND topic = $1 AND partition = $2",
    )
    .bind(topic)
    .bind(partition)
    .fetch_optional(connection)
    .await?;
    let (position, log_number) = row.unwrap_or((0, 0));
    Ok((Offset::new(position), log_number))
}

/// Moves the fold's position from `from` to the end of `batch`, if it is there, in the same log, and all
/// decisions about records are known, and keeps the row locked until the transaction ends: from here on this
/// transaction is the partition's only writer.
pub(crate) async fn compare_and_set(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    from: Offset,
    batch: &LogBatch,
    decisions: &SkipDecisions,
) -> Result<(), ApplyError> {
    let moved = sqlx::query(
        "UPDATE view_positions
            SET next_offset = $4, last_offset = coalesce($5, last_offset),
                last_identity = coalesce($6, last_identity)
          WHERE view = 'orders' AND topic = $1 AND partition = $2 AND next_offset = $3
            AND skip_decisions = $7 AND log_number = $8",
    )
    .bind(topic)
    .bind(partition)
    .bind(from.get())
    .bind(batch.to.get())
    .bind(batch.last.map(|last| last.offset.get()))
    .bind(batch.last.map(|last| last.identity.as_bytes().to_vec()))
    .bind(decisions.count)
    .bind(decisions.log_number)
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(());
    }
    if from.get() == 0 && first_position(connection, topic, partition, batch).await? {
        return Ok(());
    }
    let actual = fold_position(connection, topic, partition).await?;
    if actual == from {
        return Err(ApplyError::DecisionMissed);
    }
    Err(ApplyError::PositionMoved { actual })
}

/// False when there is a row already.
async fn first_position(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    batch: &LogBatch,
) -> Result<bool, sqlx::Error> {
    let inserted = sqlx::query(
        "INSERT INTO view_positions
                (view, topic, partition, next_offset, last_offset, last_identity)
         VALUES ('orders', $1, $2, $3, $4, $5)
         ON CONFLICT (view, topic, partition) DO NOTHING",
    )
    .bind(topic)
    .bind(partition)
    .bind(batch.to.get())
    .bind(batch.last.map(|last| last.offset.get()))
    .bind(batch.last.map(|last| last.identity.as_bytes().to_vec()))
    .execute(connection)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
pub(crate) struct RawPosition {
    pub(crate) partition: i32,
    next_offset: i64,
    last_offset: Option<i64>,
    last_identity: Option<Vec<u8>>,
    log_number: i32,
}

impl TryFrom<RawPosition> for FoldPosition {
    type Error = OrderbookError;

    fn try_from(row: RawPosition) -> Result<Self, OrderbookError> {
        let last = |(offset, identity): (i64, Vec<u8>)| {
            let identity = <[u8; 16]>::try_from(identity).map_err(|_| OrderbookError::Row {
                table: "view_positions",
                column: "last_identity",
            })?;
            Ok::<_, OrderbookError>(LastRecord {
                offset: Offset::new(offset),
                identity: Identity::from_bytes(identity),
            })
        };
        Ok(Self {
            next: Offset::new(row.next_offset),
            last: row
                .last_offset
                .zip(row.last_identity)
                .map(last)
                .transpose()?,
            log_number: row.log_number,
        })
    }
}
