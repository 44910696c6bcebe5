//! The fold of one partition: it writes the rows of a batch of records and the new position in one transaction.

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{LogBatch, Offset};
use seckill_eventlog::{Assignment, Log, Record};
use seckill_orderbook::{ApplyError, FoldPosition, SkipDecisions};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::metrics;
use crate::retry::until_done;
use crate::same_log;
use crate::standing::Cause;
use crate::traces::Traces;
use crate::unmet::Unmet;

/// How long a batch waits for more records. A transaction costs PostgreSQL as much as dozens of
/// rows, and on a busy machine that is processor time which the ingress does not get.
const LINGER: Duration = Duration::from_millis(20);

/// A batch of this many records after [`LINGER`] is of a busy log, and waits for more until it is full, in
/// as many steps at most, 240 ms in all: of several busy sales, each has a part of the records only.
const BUSY: usize = 8;
const BUSY_STEPS: usize = 11;

/// How often the view's position is read while no record comes. It is the only sign that the database
/// was restored.
const IDLE: Duration = Duration::from_secs(1);

/// How long a batch that was refused for another reason than its content waits for its next attempt.
const RETRY: Duration = Duration::from_millis(250);

/// How often a fold that is blocked checks whether it can continue.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The readiness condition of a fold whose database refuses to write. Reads may well work meanwhile.
const FOLD: &str = "fold";

/// Why a fold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The partition was taken away, or the process stops.
    Revoked,
    /// The view has another position than what was read: read again from there.
    Restart(Offset),
}

pub(crate) struct FoldWorker {
    shared: Arc<ProjectorContext>,
    partition: i32,
    position: Offset,
    /// The number of the log that is read, once it is known.
    log_number: Option<i32>,
    /// What operators have decided about records from the position on.
    skips: SkipDecisions,
    /// Records under ids that the schema registry has not told yet.
    unmet: Unmet,
    records: mpsc::Receiver<Record>,
    folded: watch::Sender<Offset>,
    traces: Traces,
    stop: CancellationToken,
}

impl FoldWorker {
    pub(crate) fn new(
        shared: Arc<ProjectorContext>,
        assignment: Assignment,
        folded: watch::Sender<Offset>,
        traces: Traces,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            partition: assignment.partition,
            position: assignment.start,
            log_number: None,
            skips: SkipDecisions::default(),
            unmet: Unmet::default(),
            records: assignment.records,
            folded,
            traces,
            stop,
        }
    }

    pub(crate) async fn run(mut self) -> End {
        let (shared, partition) = (Arc::clone(&self.shared), self.partition);
        shared.standing.begins(partition, self.position);
        let end = self.fold().await;
        shared.standing.ends(partition);
        end
    }

    async fn fold(&mut self) -> End {
        let begun = async {
            self.wait_for_same_log().await?;
            self.learn_skips().await
        };
        if let Err(end) = begun.await {
            return end;
        }
        self.shared.standing.has_read_ahead(self.partition);
        loop {
            let mut records = match self.next_records().await {
                Ok(records) => records,
                Err(end) => return end,
            };
            if self.shared.standing.doubts_log(self.partition)
                && let Err(end) = self.wait_for_same_log().await
            {
                return end;
            }
            records.retain(|record| record.offset >= self.position);
            let Some(last) = records.last() else {
                continue;
            };
            let (partitions, to) = (
                self.shared.config.stores.kafka.partitions,
                last.offset.next(),
            );
            self.unmet = Unmet::of(&records, self.shared.kafka.registry.as_ref()).await;
            let batch = Record::batch(&records, partitions, to);
            let folding = self.traces.fold(&records);
            if let Err(end) = self.commit(batch).await {
                return end;
            }
            folding.end(self.partition);
        }
    }

    /// Returns once the log has the record that was folded last. Another log is not folded: its records
    /// would be taken for those that follow, and those before them would be missing. No orders are taken
    /// meanwhile for the sales of this partition.
    async fn wait_for_same_log(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        loop {
            self.still_there().await?;
            match same_log::look(&shared, self.partition).await {
                Ok(Log::Same) => {
                    shared.standing.doubt_log(self.partition, false);
                    shared.standing.goes_on(self.partition);
                    return Ok(());
                }
                Ok(Log::Other(why)) => {
                    let why = format!("{why}; see ops/runbooks/fold-stands-still.md");
                    self.stands(Cause::AnotherLog, &why);
                    same_log::shut_sales(&shared, &self.stop, self.partition).await;
                }
                Err(error) => {
                    let why = format!("the log cannot be read: {error:#}");
                    self.stands(Cause::LogUnreadable, &why);
                }
            }
            self.pause(LOOK_AGAIN).await?;
        }
    }

    /// Finds out what operators have decided about records ahead: from the log, as PostgreSQL may be
    /// younger than the decisions.
    async fn learn_skips(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.topics.events;
        let (partition, from) = (self.partition, self.position);
        until_done(&self.stop, &shared.health, "skips", || async {
            let ahead = shared.records.skips(partition, from).await?;
            fail::fail_point!("projector.before-noting-skips");
            let noted = shared.orderbook.note_skips_ahead(topic, partition, &ahead);
            anyhow::Ok(noted.await?)
        })
        .await
        .ok_or(End::Revoked)?;
        self.read_skips().await
    }

    async fn read_skips(&mut self) -> Result<(), End> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.topics.events;
        let read = until_done(&self.stop, &shared.health, "postgresql", || {
            let book = &shared.orderbook;
            book.skip_decisions(topic, self.partition, self.position)
        });
        self.skips = read.await.ok_or(End::Revoked)?;
        self.still_there().await
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
                () = tokio::time::sleep(IDLE) => {
                    self.still_there().await?;
                    if self.shared.standing.doubts_log(self.partition) {
                        self.wait_for_same_log().await?;
                    }
                }
            }
        }
        // Records that come meanwhile wait in the channel, because one wake-up for each fetch would cost more.
        for step in 0..=BUSY_STEPS {
            if records.len() >= max || (step > 0 && records.len() < BUSY) {
                break;
            }
            tokio::time::sleep(LINGER).await;
            self.take_what_came(&mut records, max);
        }
        Ok(records)
    }

    fn take_what_came(&mut self, records: &mut Vec<Record>, max: usize) {
        while records.len() < max
            && let Ok(record) = self.records.try_recv()
        {
            records.push(record);
        }
    }

    /// While nothing is folded, checks that the view has the position that this fold left. It is behind if the
    /// database was restored, and in another log if an operator has had it accept one.
    async fn still_there(&mut self) -> Result<(), End> {
        self.look_for_view().await.map(drop)
    }

    /// Where the view stands, if this fold can go on from there.
    async fn look_for_view(&mut self) -> Result<Offset, End> {
        let FoldPosition {
            next, log_number, ..
        } = self.actual_position().await.ok_or(End::Revoked)?;
        if next < self.position || *self.log_number.get_or_insert(log_number) != log_number {
            return Err(End::Restart(next));
        }
        Ok(next)
    }

    /// Applies a batch until its last record has moved the position. Where a record stops the fold, what
    /// is before it is applied first.
    async fn commit(&mut self, batch: LogBatch) -> Result<(), End> {
        let mut rest = vec![batch];
        while let Some(mut batch) = rest.pop() {
            match self.apply(&mut batch).await? {
                Verdict::Done => self.shared.standing.goes_on(self.partition),
                Verdict::StopsAt(offset, ..) if offset > self.position => {
                    let (first, second) = batch.split(offset);
                    rest.extend([second, first]);
                }
                Verdict::StopsAt(offset, cause, why) => {
                    let why = self.unmet.why(offset, &self.shared.config).unwrap_or(why);
                    self.stands(cause, &why);
                    self.pause(LOOK_AGAIN).await?;
                    self.read_skips().await?;
                    // It was decoded before the registry told its schema.
                    if self
                        .unmet
                        .is_met_since(offset, self.shared.kafka.registry.as_ref())
                        .await
                    {
                        return Err(End::Restart(self.position));
                    }
                    rest.push(batch);
                }
                Verdict::Refused(why) => {
                    if let Some(middle) = batch.middle() {
                        let (first, second) = batch.split(middle);
                        rest.extend([second, first]);
                    } else {
                        let why = format!("PostgreSQL refuses what the fold writes: {why}");
                        self.stands(Cause::Refused, &why);
                        self.pause(LOOK_AGAIN).await?;
                        self.still_there().await?;
                        rest.push(batch);
                    }
                }
            }
        }
        Ok(())
    }

    async fn apply(&mut self, batch: &mut LogBatch) -> Result<Verdict, End> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.topics.events;
        loop {
            if self.position >= batch.to {
                return Ok(Verdict::Done);
            }
            batch.drop_before(self.position);
            fail::fail_point!("projector.before-apply");
            let applied =
                shared
                    .orderbook
                    .apply(topic, self.partition, self.position, batch, &self.skips);
            match applied.await {
                Ok(_) => {
                    self.count(batch);
                    self.moved(batch.to);
                    return Ok(Verdict::Done);
                }
                Err(ApplyError::Refused { sqlstate, message }) => {
                    return Ok(Verdict::Refused(format!("{sqlstate}: {message}")));
                }
                Err(error @ ApplyError::NotKnownYet { offset, .. }) => {
                    let why = error.to_string();
                    return Ok(Verdict::StopsAt(offset, Cause::UnknownSchema, why));
                }
                Err(error @ ApplyError::SkipPending { offset }) => {
                    let why = error.to_string();
                    return Ok(Verdict::StopsAt(offset, Cause::SkipPending, why));
                }
                Err(ApplyError::DecisionMissed) => self.read_skips().await?,
                // Another projector folded this range, or our own COMMIT arrived after all:
                // the position tells which records are left.
                Err(ApplyError::PositionMoved { .. } | ApplyError::Unknown(_)) => {
                    self.find_position().await?;
                }
                Err(error) => self.wait_for_postgresql(&error).await?,
            }
        }
    }

    async fn find_position(&mut self) -> Result<(), End> {
        let actual = self.look_for_view().await?;
        tracing::info!(
            partition = self.partition,
            position = self.position.get(),
            actual = actual.get(),
            "a batch did not commit, or its COMMIT was not answered"
        );
        self.moved(actual);
        Ok(())
    }

    fn count(&self, batch: &LogBatch) {
        metrics::FOLDED_EVENTS
            .only()
            .increment(batch.events.len() as u64);
        metrics::FOLD_BATCH_SIZE
            .only()
            .record(batch.events.len() as f64);
        let skipped = batch.malformed.len() + batch.unknown.len();
        metrics::SKIPPED_RECORDS.only().increment(skipped as u64);
        for (offset, cause) in &batch.malformed {
            let (partition, offset) = (self.partition, offset.get());
            tracing::error!(partition, offset, cause, "malformed record skipped");
        }
        self.shared.health.resolved(FOLD);
    }

    fn moved(&mut self, to: Offset) {
        fail::fail_point!("projector.after-commit");
        self.position = to;
        self.shared.standing.moved(self.partition, to);
        self.folded.send_replace(to);
    }

    fn stands(&self, cause: Cause, why: &str) {
        self.shared.standing.stops(self.partition, cause, why);
    }

    async fn actual_position(&self) -> Option<FoldPosition> {
        let shared = &self.shared;
        until_done(&self.stop, &shared.health, "postgresql", || {
            shared.fold_position(self.partition)
        })
        .await
    }

    /// Waits a moment, because a server whose disk is full refuses every attempt at once.
    async fn wait_for_postgresql(&self, error: &ApplyError) -> Result<(), End> {
        tracing::warn!(partition = self.partition, %error, "fold waits");
        self.shared.health.problem(FOLD, error.to_string());
        self.pause(RETRY).await
    }

    async fn pause(&self, length: Duration) -> Result<(), End> {
        let slept = self.stop.run_until_cancelled(tokio::time::sleep(length));
        slept.await.ok_or(End::Revoked)
    }
}

enum Verdict {
    Done,
    /// The fold is blocked at this record.
    StopsAt(Offset, Cause, String),
    /// PostgreSQL refuses at least one event.
    Refused(String),
}
