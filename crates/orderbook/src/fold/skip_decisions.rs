//! Decisions of operators to skip a record, and how a fold learns of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use seckill_domain::{Event, EventId, LogBatch, Offset, RecordSkipped};
use uuid::Uuid;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, Transaction};
use crate::database::error::{ApplyError, OrderbookError};
use crate::fold::book_snapshot::BookSnapshot;
use crate::fold::positions::fold_position;

/// The decisions of operators about one partition's records, as far as a fold needs them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SkipDecisions {
    /// How many decisions were stored. A fold that has missed one cannot move.
    pub(crate) count: i32,
    /// How many other logs the view had accepted: a fold that reads an earlier one cannot move.
    pub(crate) log_number: i32,
    /// By the record's offset: whether the decision stands in the log.
    pub(crate) records: BTreeMap<Offset, bool>,
}

impl SkipDecisions {
    /// The number of the log that these decisions are about.
    #[must_use]
    pub const fn log_number(&self) -> i32 {
        self.log_number
    }

    /// The batch without the records that were decided about.
    ///
    /// # Errors
    /// [`ApplyError::NotKnownYet`] and [`ApplyError::SkipPending`]: the batch has to end before that
    /// record.
    pub(crate) fn take_from<'b>(
        &self,
        batch: &'b LogBatch,
    ) -> Result<Cow<'b, [(Offset, Event)]>, ApplyError> {
        let pending = |offset: &Offset| self.records.get(offset) == Some(&false);
        let unread = batch.unknown.iter().map(|(offset, _)| offset);
        let read = batch.events.iter().map(|(offset, _)| offset);
        if let Some(offset) = read.chain(unread).filter(|at| pending(at)).min() {
            return Err(ApplyError::SkipPending { offset: *offset });
        }
        let decided = |offset: &Offset| self.records.contains_key(offset);
        if let Some((offset, cause)) = batch.unknown.iter().find(|(at, _)| !decided(at)) {
            return Err(ApplyError::NotKnownYet {
                offset: *offset,
                cause: cause.clone(),
            });
        }
        if self.records.is_empty() {
            return Ok(Cow::Borrowed(&batch.events));
        }
        let left = batch.events.iter().filter(|(at, _)| !decided(at));
        Ok(Cow::Owned(left.cloned().collect()))
    }
}

/// The state of an operator's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipBegun {
    /// It is noted, under this event id: append the event to the log, then call
    /// [`Orderbook::finish_skip`].
    Noted(EventId),
    /// It was made before, and is carried out.
    Done,
    /// The fold has passed the record: it is at this position.
    Passed(Offset),
}

impl Orderbook {
    /// The decisions about records of this partition from `from` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn skip_decisions(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
    ) -> Result<SkipDecisions, OrderbookError> {
        // The count first: a decision that is noted in between makes it too low, and the fold asks again.
        let (count, log_number) = self.decision_count(topic, partition).await?;
        let records = self.decided_from(topic, partition, from).await?;
        Ok(SkipDecisions {
            count,
            log_number,
            records,
        })
    }

    /// How often a decision was noted beside the position of these tables, and the number of their log.
    pub(crate) async fn decision_count(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<(i32, i32), OrderbookError> {
        let known: Option<(i32, i32)> = sqlx::query_as(
            "SELECT skip_decisions, log_number FROM view_positions
              WHERE view = 'orders' AND topic = $1 AND partition = $2",
        )
        .bind(topic)
        .bind(partition)
        .fetch_optional(&self.pool)
        .await?;
        Ok(known.unwrap_or((0, 0)))
    }

    /// The decisions alone. Waits for none of the tables that a rebuild locks when it exchanges them.
    pub(crate) async fn decided_from(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
    ) -> Result<BTreeMap<Offset, bool>, OrderbookError> {
        let rows: Vec<(i64, bool)> = sqlx::query_as(
            r#"SELECT "offset", in_log FROM skipped_records
                WHERE topic = $1 AND partition = $2 AND "offset" >= $3 AND decided_by IS NOT NULL"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(from.get())
        .fetch_all(&self.pool)
        .await?;
        let record = |(at, in_log)| (Offset::new(at), in_log);
        Ok(rows.into_iter().map(record).collect())
    }

    /// Notes that the record at `offset` is to be passed over, if the fold has not come to it. From then on
    /// no fold goes past it before [`Self::finish_skip`]. Repeated, it gives the same event id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_skip(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
        event_id: EventId,
        cause: &str,
    ) -> Result<SkipBegun, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        let position = hold_position(&mut transaction, topic, partition).await?;
        let known: Option<(Option<Uuid>, bool)> = sqlx::query_as(
            r#"SELECT decided_by, in_log FROM skipped_records
                WHERE topic = $1 AND partition = $2 AND "offset" = $3"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(offset.get())
        .fetch_optional(&mut *transaction)
        .await?;
        match known {
            Some((Some(id), false)) => return Ok(SkipBegun::Noted(EventId::from_uuid(id))),
            Some(_) => return Ok(SkipBegun::Done),
            None if position > offset => return Ok(SkipBegun::Passed(position)),
            None => {}
        }
        sqlx::query(
            r#"INSERT INTO skipped_records (topic, partition, "offset", cause, decided_by, in_log)
               VALUES ($1, $2, $3, $4, $5, false)"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(offset.get())
        .bind(cause)
        .bind(event_id.as_uuid())
        .execute(&mut *transaction)
        .await?;
        one_more_decision(&mut transaction, topic, partition).await?;
        transaction.commit().await?;
        Ok(SkipBegun::Noted(event_id))
    }

    /// Notes that a decision stands in the log, so that the fold goes on, and the operator's command.
    ///
    /// # Errors
    /// When the database fails: call it again.
    pub async fn finish_skip(
        &self,
        topic: &str,
        partition: i32,
        offset: Offset,
        entry: AuditEntry<'_>,
    ) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        hold_position(&mut transaction, topic, partition).await?;
        sqlx::query(
            r#"UPDATE skipped_records SET in_log = true
                WHERE topic = $1 AND partition = $2 AND "offset" = $3"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(offset.get())
        .execute(&mut *transaction)
        .await?;
        one_more_decision(&mut transaction, topic, partition).await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }

    /// Notes decisions that were found in the log ahead of the fold: PostgreSQL may be younger than they
    /// are. Those about records that the fold has passed change nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_skips_ahead(
        &self,
        topic: &str,
        partition: i32,
        decisions: &[(EventId, RecordSkipped)],
    ) -> Result<(), OrderbookError> {
        if decisions.is_empty() {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await?;
        let position = hold_position(&mut transaction, topic, partition).await?;
        let ahead = decisions.iter().filter(|(_, skip)| skip.offset >= position);
        for (event_id, skip) in ahead {
            insert_decision(&mut transaction, topic, *event_id, skip).await?;
        }
        one_more_decision(&mut transaction, topic, partition).await?;
        Ok(transaction.commit().await?)
    }
}

impl BookSnapshot {
    /// Records of `topic` that an operator decided to pass over, by partition and offset.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn decided_skips(
        &mut self,
        topic: &str,
    ) -> Result<HashSet<(i32, Offset)>, OrderbookError> {
        let rows: Vec<(i32, i64)> = sqlx::query_as(
            r#"SELECT partition, "offset" FROM skipped_records
                WHERE topic = $1 AND decided_by IS NOT NULL"#,
        )
        .bind(topic)
        .fetch_all(&mut *self.transaction)
        .await?;
        let place = |(partition, offset)| (partition, Offset::new(offset));
        Ok(rows.into_iter().map(place).collect())
    }
}

/// Locks the fold's position of this partition, which is made where there is none, until the transaction
/// ends, and says where it is.
async fn hold_position(
    transaction: &mut Transaction,
    topic: &str,
    partition: i32,
) -> Result<Offset, sqlx::Error> {
    sqlx::query(
        "INSERT INTO view_positions (view, topic, partition, next_offset)
         VALUES ('orders', $1, $2, 0) ON CONFLICT DO NOTHING",
    )
    .bind(topic)
    .bind(partition)
    .execute(&mut **transaction)
    .await?;
    sqlx::query(
        "SELECT FROM view_positions
          WHERE view = 'orders' AND topic = $1 AND partition = $2 FOR UPDATE",
    )
    .bind(topic)
    .bind(partition)
    .execute(&mut **transaction)
    .await?;
    fold_position(transaction, topic, partition).await
}

async fn one_more_decision(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE view_positions SET skip_decisions = skip_decisions + 1
          WHERE view = 'orders' AND topic = $1 AND partition = $2",
    )
    .bind(topic)
    .bind(partition)
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_decision(
    connection: &mut Connection,
    topic: &str,
    event_id: EventId,
    skip: &RecordSkipped,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"INSERT INTO skipped_records (topic, partition, "offset", cause, decided_by)
           VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (topic, partition, "offset") DO UPDATE SET in_log = true"#,
    )
    .bind(topic)
    .bind(skip.partition)
    .bind(skip.offset.get())
    .bind(cause_of(skip))
    .bind(event_id.as_uuid())
    .execute(connection)
    .await?;
    Ok(())
}

/// Why a record is passed over that an operator has decided about.
#[must_use]
pub fn cause_of(skip: &RecordSkipped) -> String {
    format!("skipped by {}: {}", skip.actor, skip.reason)
}
