//! The fold of one partition: records in, rows and the position out, in one transaction a batch.

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{Event, Offset};
use seckill_eventlog::{Assignment, DeadLetter, Record};
use seckill_orderbook::{ApplyError, View};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::partition::Shared;
use crate::retry::until_done;

/// How long a batch waits for more records. A transaction costs PostgreSQL as much as dozens of
/// rows, and on a busy machine that is processor time which the ingress does not get.
const LINGER: Duration = Duration::from_millis(20);

/// How often the view's position is looked at while nothing comes: a database that was restored says
/// so only there.
const IDLE: Duration = Duration::from_secs(1);

/// How long a batch that was refused for no fault of its own waits for its next try.
const RETRY: Duration = Duration::from_millis(250);

/// The readiness condition of a fold that stands still. Reads may well work meanwhile.
const FOLD: &str = "fold";

/// Why a fold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The partition was taken away, or the process stops.
    Revoked,
    /// The view stands before what was read: PostgreSQL lost transactions. Read again from there.
    Restart(Offset),
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    partition: i32,
    position: Offset,
    records: mpsc::Receiver<Record>,
    folded: watch::Sender<Offset>,
    stop: CancellationToken,
}

/// A stretch of the log, decoded: what is not in `events` went to the dead letters.
struct Batch {
    records: Vec<Record>,
    events: Vec<(Offset, Event)>,
    to: Offset,
}

impl Worker {
    pub(crate) fn new(
        shared: Arc<Shared>,
        assignment: Assignment,
        folded: watch::Sender<Offset>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            partition: assignment.partition,
            position: assignment.start,
            records: assignment.records,
            folded,
            stop,
        }
    }

    pub(crate) async fn run(mut self) -> End {
        loop {
            let mut records = match self.next_records().await {
                Ok(records) => records,
                Err(end) => return end,
            };
            records.retain(|record| record.offset >= self.position);
            let Some(last) = records.last() else {
                continue;
            };
            let to = last.offset.next();
            let Some(batch) = self.decode(records, to).await else {
                return End::Revoked;
            };
            if let Err(end) = self.commit(batch).await {
                return end;
            }
        }
    }

    /// At least one record, and what comes within the linger after it.
    async fn next_records(&mut self) -> Result<Vec<Record>, End> {
        let mut records = Vec::new();
        let max = self.shared.config.fold_batch_max;
        while records.is_empty() {
            tokio::select! {
                received = self.records.recv_many(&mut records, max) => if received == 0 {
                    return Err(End::Revoked);
                },
                () = self.stop.cancelled() => return Err(End::Revoked),
                () = tokio::time::sleep(IDLE) => self.still_there().await?,
            }
        }
        let full_or_late = tokio::time::Instant::now() + LINGER;
        while records.len() < max {
            let room = max - records.len();
            let more = self.records.recv_many(&mut records, room);
            match tokio::time::timeout_at(full_or_late, more).await {
                Ok(received) if received > 0 => {}
                Ok(_) | Err(_) => break,
            }
        }
        Ok(records)
    }

    /// Nothing to fold: is the view where this fold left it?
    async fn still_there(&self) -> Result<(), End> {
        let actual = self.actual_position().await.ok_or(End::Revoked)?;
        if actual < self.position {
            return Err(End::Restart(actual));
        }
        Ok(())
    }

    /// Decodes; what cannot be decoded is in the dead-letter topic when this returns.
    async fn decode(&self, records: Vec<Record>, to: Offset) -> Option<Batch> {
        let mut events = Vec::with_capacity(records.len());
        for record in &records {
            match record.event(self.shared.config.event_partitions) {
                Ok(event) => events.push((record.offset, event)),
                Err(error) => self.bury(record, &error.to_string()).await?,
            }
        }
        Some(Batch {
            records,
            events,
            to,
        })
    }

    /// Publishes a dead letter and waits for its ack; `None` when stopped before that.
    async fn bury(&self, record: &Record, cause: &str) -> Option<()> {
        let shared = &self.shared;
        let (partition, offset) = (record.partition, record.offset.get());
        tracing::error!(partition, offset, cause, "dead letter");
        metrics::counter!("seckill_dead_letters_total").increment(1);
        let letter = DeadLetter {
            record,
            cause: cause.to_owned(),
            group: &shared.group,
        };
        until_done(&self.stop, &shared.health, "dead-letters", || async {
            shared.producer.send_dead_letter(&letter).await?;
            fail::fail_point!("projector.after-dead-letter");
            anyhow::Ok(())
        })
        .await
    }

    /// Applies a batch, halving it where PostgreSQL refuses it, until its last record has moved
    /// the position.
    async fn commit(&mut self, batch: Batch) -> Result<(), End> {
        let mut rest = vec![batch];
        while let Some(batch) = rest.pop() {
            match self.apply(&batch).await? {
                Verdict::Done => {}
                Verdict::Refused(cause) => match batch.halves() {
                    Ok((first, second)) => rest.extend([second, first]),
                    Err(single) => {
                        if let Some(record) = single.records.last() {
                            self.bury(record, &cause).await.ok_or(End::Revoked)?;
                        }
                        rest.push(Batch {
                            events: Vec::new(),
                            ..*single
                        });
                    }
                },
            }
        }
        Ok(())
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Verdict, End> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.topics.events;
        loop {
            if self.position >= batch.to {
                return Ok(Verdict::Done);
            }
            let from = batch.events.partition_point(|(o, _)| *o < self.position);
            let events = &batch.events[from..];
            fail::fail_point!("projector.before-apply");
            let outcome = shared
                .orderbook
                .apply(topic, self.partition, self.position, batch.to, events)
                .await;
            match outcome {
                Ok(_) => {
                    metrics::counter!("seckill_folded_events_total").increment(events.len() as u64);
                    metrics::histogram!("seckill_fold_batch_size").record(events.len() as f64);
                    shared.health.resolved(FOLD);
                    self.moved(batch.to);
                    return Ok(Verdict::Done);
                }
                Err(ApplyError::Refused { sqlstate, message }) => {
                    return Ok(Verdict::Refused(format!("{sqlstate}: {message}")));
                }
                // Another projector folded this stretch, or our own COMMIT arrived after all:
                // the position tells which records are left.
                Err(ApplyError::PositionMoved { .. } | ApplyError::Unknown(_)) => {
                    let actual = self.actual_position().await.ok_or(End::Revoked)?;
                    tracing::info!(
                        partition = self.partition,
                        position = self.position.get(),
                        actual = actual.get(),
                        "a batch did not commit, or its COMMIT was not answered"
                    );
                    if actual < self.position {
                        return Err(End::Restart(actual));
                    }
                    self.moved(actual);
                }
                Err(error) => self.wait_for_postgresql(&error).await?,
            }
        }
    }

    fn moved(&mut self, to: Offset) {
        fail::fail_point!("projector.after-commit");
        self.position = to;
        self.folded.send_replace(to);
    }

    async fn actual_position(&self) -> Option<Offset> {
        let shared = &self.shared;
        until_done(&self.stop, &shared.health, "postgresql", || {
            shared.position(self.partition, View::Orders)
        })
        .await
    }

    /// Waits a moment: a server whose disk is full answers at once, and refuses again at once.
    async fn wait_for_postgresql(&self, error: &ApplyError) -> Result<(), End> {
        tracing::warn!(partition = self.partition, %error, "fold waits");
        self.shared.health.problem(FOLD, error.to_string());
        let slept = self.stop.run_until_cancelled(tokio::time::sleep(RETRY));
        slept.await.ok_or(End::Revoked)
    }
}

enum Verdict {
    Done,
    Refused(String),
}

impl Batch {
    /// Two batches that together are this one, or the batch itself when it has one record.
    fn halves(mut self) -> Result<(Self, Self), Box<Self>> {
        if self.records.len() < 2 {
            return Err(Box::new(self));
        }
        let second_records = self.records.split_off(self.records.len() / 2);
        let middle = second_records[0].offset;
        let at = self.events.partition_point(|(offset, _)| *offset < middle);
        let second = Self {
            events: self.events.split_off(at),
            records: second_records,
            to: self.to,
        };
        self.to = middle;
        Ok((self, second))
    }
}

#[cfg(test)]
mod tests {
    use seckill_domain::{EventBody, EventId, Timestamp, VoucherId};
    use seckill_eventlog::Headers;

    use super::*;

    /// Records at these offsets; the odd ones could be decoded.
    fn batch(offsets: &[i64], to: i64) -> Batch {
        let record = |offset: &i64| Record {
            partition: 0,
            offset: Offset::new(*offset),
            key: None,
            payload: None,
            headers: Headers::default(),
            timestamp_ms: None,
        };
        let event = || Event {
            event_id: EventId::from_uuid(uuid::Uuid::nil()),
            voucher_id: VoucherId::new(1).unwrap(),
            occurred_at: Timestamp::from_micros(0),
            body: EventBody::SaleClosed,
        };
        let odd = offsets.iter().filter(|offset| *offset % 2 == 1);
        Batch {
            records: offsets.iter().map(record).collect(),
            events: odd.map(|offset| (Offset::new(*offset), event())).collect(),
            to: Offset::new(to),
        }
    }

    fn offsets(batch: &Batch) -> (Vec<i64>, Vec<i64>, i64) {
        let records = batch.records.iter().map(|record| record.offset.get());
        let events = batch.events.iter().map(|(offset, _)| offset.get());
        (records.collect(), events.collect(), batch.to.get())
    }

    #[test]
    fn halves_meet_where_the_second_begins_and_lose_nothing() {
        let Ok((first, second)) = batch(&[3, 4, 7, 8, 9], 10).halves() else {
            panic!("five records have halves");
        };
        assert_eq!(offsets(&first), (vec![3, 4], vec![3], 7));
        assert_eq!(offsets(&second), (vec![7, 8, 9], vec![7, 9], 10));
        assert!(batch(&[3], 4).halves().is_err());
    }
}
