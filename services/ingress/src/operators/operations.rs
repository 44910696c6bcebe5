//! Data for operators beside the sales: the lag of the views, dead letters, and the history of one order in the log.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use seckill_domain::{Offset, OrderId, VoucherId};
use seckill_eventlog::{
    HistoryError, KafkaError, KafkaSettings, OffsetRange, OrderHistory, ReadError as LogError,
    Record, RecordReader, Topics,
};
use seckill_orderbook::{AuditEntry, Orderbook, OrderbookError, SkipFate, SkippedRecord, View};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use utoipa::ToSchema;

use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::rfc3339;
use crate::operators::change::Change;

/// How long a result is cached, so that several open pages share it.
const REMEMBERED: Duration = Duration::from_secs(2);

/// How long an operator's call waits for the fold, and how often it looks.
const FOLD_PATIENCE: Duration = Duration::from_secs(5);
const FOLD_LOOK: Duration = Duration::from_millis(50);

/// How far one view is behind the end of the log, over all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Lag {
    /// Events that it has not reached.
    pub events: u64,
    /// How long the oldest of them has been waiting; 0 where there is none.
    pub seconds: f64,
}

/// The pipeline at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct Overview {
    /// Of PostgreSQL.
    pub fold: Lag,
    /// Of what follows from it: Redis and the outcomes.
    pub effects: Lag,
    /// Dead letters that nobody has dealt with.
    pub dead_letters: u64,
}

/// One record of an order.
#[derive(Debug, Serialize, ToSchema)]
pub struct TimelineStep {
    offset: i64,
    /// By the broker's clock.
    #[schema(required = true, format = DateTime)]
    written_at: Option<String>,
    /// The record's name, such as `OrderPaid`.
    event: &'static str,
    /// Its `traceparent`.
    #[schema(required = true)]
    trace: Option<String>,
    /// In words.
    decided: String,
}

/// Why there is no result. All callers that have waited for the same query get it.
#[derive(Debug, Clone, thiserror::Error)]
enum LookError {
    #[error("Kafka: {0}")]
    Log(String),
    #[error("PostgreSQL: {0}")]
    Orderbook(String),
}

impl From<LogError> for LookError {
    fn from(error: LogError) -> Self {
        Self::Log(error.to_string())
    }
}

impl From<OrderbookError> for LookError {
    fn from(error: OrderbookError) -> Self {
        Self::Orderbook(error.to_string())
    }
}

/// Reads for operators. It is cheap to clone, and clones share the cache.
#[derive(Clone)]
pub struct Operations(Arc<Inner>);

struct Inner {
    runtime: Handle,
    orderbook: Orderbook,
    kafka: KafkaSettings,
    topics: Topics,
    partitions: i32,
    /// For all queries of lag and of single records.
    records: RecordReader,
    overview: Cache<(), Overview>,
}

impl Operations {
    /// `partitions` are the event topic's. Reads run on `runtime`: a pooled connection belongs to
    /// the runtime that made it.
    ///
    /// # Errors
    /// When the Kafka client refuses the settings.
    pub fn new(
        orderbook: Orderbook,
        kafka: KafkaSettings,
        topics: Topics,
        partitions: i32,
        runtime: Handle,
    ) -> Result<Self, KafkaError> {
        let records = RecordReader::new(&kafka, &topics.events)?;
        Ok(Self(Arc::new(Inner {
            runtime,
            orderbook,
            kafka,
            topics,
            partitions,
            records,
            overview: Cache::builder().time_to_live(REMEMBERED).build(),
        })))
    }

    /// At most two seconds old.
    ///
    /// # Errors
    /// `unavailable` when PostgreSQL or Kafka does not answer.
    pub async fn overview(&self) -> Result<Overview, Problem> {
        let inner = Arc::clone(&self.0);
        let looked = self
            .0
            .runtime
            .spawn(async move { inner.overview.try_get_with((), inner.look()).await });
        let looked = looked.await.map_err(Problem::internal)?;
        looked.map_err(|error: Arc<LookError>| away(error))
    }

    /// Waits until the fold has everything that the log holds now. PostgreSQL then knows every sale that was
    /// ever put up, also if it was restored from a backup.
    ///
    /// # Errors
    /// `unavailable` when the fold does not get there soon, or a store does not answer.
    pub async fn fold_has_caught_up(&self) -> Result<(), Problem> {
        let inner = Arc::clone(&self.0);
        let waited = self.0.runtime.spawn(async move { inner.catch_up().await });
        let caught_up = waited.await.map_err(Problem::internal)?.map_err(away)?;
        if caught_up {
            Ok(())
        } else {
            Err(Problem::unavailable(
                "The fold is behind the log, which may hold sales that it does not know yet: \
                 try again when it has caught up.",
            ))
        }
    }

    /// At most `limit` records that were passed over, those that nobody has dealt with first.
    ///
    /// # Errors
    /// `unavailable` when PostgreSQL does not answer.
    pub async fn skipped(&self, limit: u32) -> Result<Vec<SkippedRecord>, Problem> {
        let inner = Arc::clone(&self.0);
        let read = self.0.runtime.spawn(async move {
            let topic = &inner.topics.events;
            inner.orderbook.newest_skipped_records(topic, limit).await
        });
        read.await.map_err(Problem::internal)?.map_err(away)
    }

    /// One record that was passed over, and what is in it; no content where the log has it no more. None: that record
    /// was not passed over.
    ///
    /// # Errors
    /// `unavailable` when a store does not answer.
    pub async fn letter(
        &self,
        partition: i32,
        offset: Offset,
    ) -> Result<Option<(SkippedRecord, Option<Record>)>, Problem> {
        let inner = Arc::clone(&self.0);
        let read = self.0.runtime.spawn(async move {
            let topic = &inner.topics.events;
            let row = inner.orderbook.skipped_record(topic, partition, offset);
            let Some(row) = row.await.map_err(away)? else {
                return Ok(None);
            };
            let record = inner.record(partition, offset).await.map_err(away)?;
            Ok(Some((row, record)))
        });
        read.await.map_err(Problem::internal)?
    }

    /// Records that a record was redriven, and the request for it. To be called when the record is in the log again.
    ///
    /// # Errors
    /// `unavailable` when PostgreSQL does not answer.
    pub(super) async fn note_redriven(
        &self,
        place: (i32, Offset),
        voucher: VoucherId,
        change: Change,
    ) -> Result<(), Problem> {
        let inner = Arc::clone(&self.0);
        let noted = self.0.runtime.spawn(async move {
            let (topic, voucher_id) = (&inner.topics.events, Some(voucher));
            let entry = AuditEntry {
                voucher_id,
                ..change.entry()
            };
            let (orderbook, fate) = (&inner.orderbook, SkipFate::Redriven);
            orderbook.note_fate(topic, &[place], fate, entry).await
        });
        let noted = noted.await.map_err(Problem::internal)?;
        noted.map_err(|error| {
            Problem::unavailable(
                "The record is in the log again, but that is not noted: send the request again, that does no harm.",
            )
            .because(error)
        })
    }

    /// Every record of an order, in the order of the log. None: there is none.
    ///
    /// # Errors
    /// `unavailable` when the log cannot be read.
    pub async fn timeline(&self, order_id: OrderId) -> Result<Option<Vec<TimelineStep>>, Problem> {
        let inner = Arc::clone(&self.0);
        let read = self.0.runtime.spawn(async move {
            let (topic, partitions) = (&inner.topics.events, inner.partitions);
            OrderHistory::read(&inner.kafka, topic, partitions, order_id, None).await
        });
        let history = read.await.map_err(Problem::internal)?;
        let history = history.map_err(|error| match error {
            HistoryError::Read(_) => {
                Problem::unavailable("The log cannot be read: try again in a moment.")
                    .because(error)
            }
            HistoryError::Truncated => Problem::unavailable(error.to_string()),
        })?;
        let steps: Vec<_> = history.steps.into_iter().map(TimelineStep::from).collect();
        Ok((!steps.is_empty()).then_some(steps))
    }
}

impl Inner {
    async fn look(&self) -> Result<Overview, LookError> {
        let numbers: Vec<i32> = (0..self.partitions).collect();
        // The positions are read before the log's ends, so that no view can seem to be ahead of the log.
        let topic = &self.topics.events;
        let effects = self
            .orderbook
            .positions(topic, &numbers, View::Effects)
            .await?;
        let fold = self
            .orderbook
            .positions(topic, &numbers, View::Orders)
            .await?;
        let held = self.records.held(self.partitions).await?;
        Ok(Overview {
            fold: lag(&self.records, &held, &fold).await?,
            effects: lag(&self.records, &held, &effects).await?,
            dead_letters: self.orderbook.open_skipped_records(topic).await?,
        })
    }

    /// Whether the fold came to the end that the log has now.
    async fn catch_up(&self) -> Result<bool, LookError> {
        let topic = &self.topics.events;
        let numbers: Vec<i32> = (0..self.partitions).collect();
        let held = self.records.held(self.partitions).await?;
        let deadline = Instant::now() + FOLD_PATIENCE;
        loop {
            let fold = self
                .orderbook
                .positions(topic, &numbers, View::Orders)
                .await?;
            let mut unread = held.iter().map(|range| unread(range, &fold));
            if unread.all(|range| range.is_empty()) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                // Offsets at the end of a partition may belong to no record.
                return Ok(lag(&self.records, &held, &fold).await?.events == 0);
            }
            tokio::time::sleep(FOLD_LOOK).await;
        }
    }

    /// None: the log does not have it any more.
    async fn record(&self, partition: i32, offset: Offset) -> Result<Option<Record>, LogError> {
        match self.records.at(partition, vec![offset]).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(LogError::NotInLog { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn lag(
    records: &RecordReader,
    held: &[OffsetRange],
    view: &[(i32, Offset)],
) -> Result<Lag, LookError> {
    let unread: Vec<OffsetRange> = held.iter().map(|range| unread(range, view)).collect();
    let behind = records.backlog(&unread).await?;
    let now_ms = timestamp_now().as_micros() / 1000;
    let oldest_ms = behind.values().filter_map(|b| b.oldest_ms).min();
    let oldest_ms = oldest_ms.unwrap_or(now_ms);
    Ok(Lag {
        events: behind.values().map(|b| b.events).sum(),
        seconds: (now_ms - oldest_ms).max(0) as f64 / 1000.0,
    })
}

fn away(error: impl Display) -> Problem {
    Problem::unavailable("A store does not answer: try again in a moment.").because(error)
}

fn unread(held: &OffsetRange, view: &[(i32, Offset)]) -> OffsetRange {
    let position = view.iter().find(|(number, _)| *number == held.partition);
    OffsetRange {
        from: position.map_or(held.from, |(_, offset)| held.from.max(*offset)),
        ..*held
    }
}

impl From<seckill_eventlog::HistoryStep> for TimelineStep {
    fn from(step: seckill_eventlog::HistoryStep) -> Self {
        let written = step.record.timestamp_ms;
        let at = |ms: i64| rfc3339::format(seckill_domain::Timestamp::from_micros(ms * 1000));
        Self {
            offset: step.record.offset.get(),
            written_at: written.map(at),
            event: step.event.body.name(),
            trace: step.record.trace().map(|trace| trace.to_string()),
            decided: step.decided,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_view_has_not_reached_is_unread() {
        let held = OffsetRange {
            partition: 1,
            from: Offset::new(10),
            to: Offset::new(30),
        };
        let at = |offset| unread(&held, &[(0, Offset::new(99)), (1, Offset::new(offset))]).len();
        assert_eq!((at(12), at(30), at(3)), (18, 0, 20));
        assert_eq!(unread(&held, &[]).len(), 20, "it has not begun");
    }
}
