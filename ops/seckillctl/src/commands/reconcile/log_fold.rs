//! Folds the log in memory, each partition up to the position at which the other store was read.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use anyhow::{Context, anyhow};
use seckill_domain::{Event, EventBody, LastRecord, Offset, VoucherId};
use seckill_eventlog::{OffsetRange, Record, decode_event};
use seckill_orderbook::{AcceptedLog, BookSnapshot, ExpectedBook, OrderbookError};

use crate::failure::Failure;
use crate::log::Log;

/// The expected content of the tables up to the folded positions, and the records after that.
pub(super) struct LogFold<'a> {
    log: &'a Log,
    /// Only these sales. None: all sales.
    wanted: Option<HashSet<VoucherId>>,
    /// Records that every fold skips because an operator has decided so.
    decided: HashSet<(i32, Offset)>,
    pub(super) book: ExpectedBook,
    /// Orders, payments and events that are named by a skipped record: the place of the record, and why it is skipped.
    passed_over: HashMap<String, (i32, Offset, String)>,
    partitions: BTreeMap<i32, Partition>,
    /// Partitions whose log lacks earlier records. The rows of these records are taken from the tables.
    pub(super) accepted: BTreeMap<i32, AcceptedLog>,
}

#[derive(Default)]
struct Partition {
    /// Events that are read and not folded yet.
    ahead: VecDeque<(Offset, Event)>,
    read_to: i64,
    /// The number of records that were read. It is not the difference of two offsets, because offsets have gaps.
    records: u64,
    /// The last record that the tables have folded. None after it was found in the log.
    expected: Option<LastRecord>,
}

impl<'a> LogFold<'a> {
    /// `partitions` are those to read. They contain the sales in `wanted`.
    pub(super) async fn new(
        log: &'a Log,
        snapshot: &mut BookSnapshot,
        wanted: Option<HashSet<VoucherId>>,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<Self, Failure> {
        let topic = &log.topics.events;
        let partitions: BTreeMap<i32, Partition> = partitions
            .into_iter()
            .map(|partition| (partition, Partition::default()))
            .collect();
        let decided = snapshot.decided_skips(topic).await;
        let accepted = snapshot.accepted_logs(topic).await;
        // If a partition has several, the last one counts.
        let accepted = accepted
            .context("cannot read which logs were accepted")?
            .into_iter();
        let accepted = accepted.map(|log| (log.partition, log));
        let mut fold = Self {
            log,
            wanted,
            decided: decided.context("cannot read which records were skipped")?,
            book: ExpectedBook::default(),
            passed_over: HashMap::new(),
            accepted: accepted
                .filter(|(p, _)| partitions.contains_key(p))
                .collect(),
            partitions,
        };
        fold.take_over(snapshot).await?;
        Ok(fold)
    }

    /// Begins at the position at which the current log was accepted, with the rows of that time.
    async fn take_over(&mut self, snapshot: &mut BookSnapshot) -> Result<(), Failure> {
        if self.accepted.is_empty() {
            return Ok(());
        }
        for (number, accepted) in &self.accepted {
            self.book.begin_at(*number, accepted.from);
            // The record that identifies the log may be the one before this position.
            let last = snapshot.last_record(*number).map(|last| last.offset);
            let from = last.map_or(accepted.from, |last| last.min(accepted.from));
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.read_to = from.get();
            }
        }
        for voucher in snapshot
            .vouchers()
            .await
            .context("cannot read the tables")?
        {
            let accepted = self.accepted.get(&self.log.partition_of(voucher));
            let Some(accepted) = accepted.filter(|_| self.wants(voucher)) else {
                continue;
            };
            let from = accepted.from;
            match snapshot.rows(voucher).await {
                Ok(rows) => self.book.take_over(voucher, rows, from),
                Err(error @ OrderbookError::Row { .. }) => {
                    return Err(Failure::Refused(format!(
                        "sale {voucher}: {error}; the log does not have all of its records any more, and \
                         cannot say what is right: mend the row; nothing was compared or written"
                    )));
                }
                Err(error) => {
                    let error = anyhow::Error::new(error).context("cannot read the rows");
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    /// Whether the tables are still folded from the log that this fold reads.
    pub(super) fn is_of_log(&self, number: i32, log_number: i32) -> bool {
        let accepted = self.accepted.get(&number);
        accepted.map_or(0, |accepted| accepted.log.number) == log_number
    }

    /// Reads the log to its end, folds it up to the tables' positions, and checks that the tables were folded from it.
    pub(super) async fn read_for(&mut self, snapshot: &BookSnapshot) -> Result<(), Failure> {
        let numbers: Vec<i32> = self.partitions.keys().copied().collect();
        let mut positions = HashMap::new();
        for number in numbers {
            self.expect(number, snapshot.last_record(number));
            positions.insert(number, snapshot.position(number));
        }
        self.read(&positions).await?;
        self.prove()
    }

    /// Sets the last record that the tables have folded. [`Self::prove`] fails if the log does not have it. Call this
    /// before that part of the log is read.
    pub(super) fn expect(&mut self, number: i32, last: Option<LastRecord>) {
        if let Some(partition) = self.partitions.get_mut(&number) {
            let ahead = last.filter(|last| last.offset.get() >= partition.read_to);
            partition.expected = ahead.or(partition.expected.take());
        }
    }

    /// Checks that the log was read from its beginning up to at least the tables' positions, and that the tables were
    /// folded from it. Otherwise nothing is reported or written.
    pub(super) fn prove(&self) -> Result<(), Failure> {
        for (number, partition) in &self.partitions {
            if let Some(expected) = partition.expected {
                return Err(Failure::Refused(format!(
                    "partition {number} of the log does not have the record that the tables took last, at {}: \
                     it is another log, or was not read whole; nothing was compared or written",
                    expected.offset.get()
                )));
            }
        }
        Ok(())
    }

    /// Continues to read up to the current end of the log, and folds the records below `positions`.
    pub(super) async fn read(&mut self, positions: &HashMap<i32, Offset>) -> Result<(), Failure> {
        let all = self.log.event_ranges().await?;
        let mut ranges = Vec::new();
        for held in all {
            let Some(partition) = self.partitions.get_mut(&held.partition) else {
                continue;
            };
            let position = positions.get(&held.partition).map_or(0, |at| at.get());
            check(&held, partition.read_to, position)?;
            ranges.push(OffsetRange {
                from: Offset::new(partition.read_to),
                ..held
            });
            partition.read_to = held.to.get();
        }
        ranges.retain(|range| !range.is_empty());
        // Records that were read earlier come before those that are read now.
        for (number, position) in positions {
            self.fold_to(*number, *position);
        }
        let mut records = self.log.scan(&self.log.topics.events, ranges).await?;
        while let Some(record) = records.next().await? {
            let (number, offset) = (record.partition, record.offset);
            self.meet(&record);
            if self.decided.contains(&(number, offset)) {
                self.pass_over(&record, "an operator decided so");
                continue;
            }
            let event = match record.event(self.log.partitions) {
                Ok(event) => event,
                Err(error) if error.is_not_known_yet() => {
                    return Err(Failure::Refused(format!(
                        "the record at {number}/{} cannot be read by this version ({error}): use one that \
                         can; nothing can be compared before that",
                        offset.get()
                    )));
                }
                // The record is malformed, so every fold skips it.
                Err(error) => {
                    self.pass_over(&record, &error.to_string());
                    continue;
                }
            };
            if !self.wants(event.voucher_id) {
                continue;
            }
            if positions.get(&number).is_some_and(|at| offset < *at) {
                self.book.fold(number, offset, &event);
            } else if let Some(partition) = self.partitions.get_mut(&number) {
                partition.ahead.push_back((offset, event));
            }
        }
        Ok(())
    }

    fn meet(&mut self, record: &Record) {
        let Some(partition) = self.partitions.get_mut(&record.partition) else {
            return;
        };
        partition.records += 1;
        let is_it =
            |last: LastRecord| last.offset == record.offset && last.identity == record.identity();
        if partition.expected.is_some_and(is_it) {
            partition.expected = None;
        }
    }

    fn pass_over(&mut self, record: &Record, why: &str) {
        let event = decode_event(record.payload.as_deref().unwrap_or_default());
        let Ok(event) = event else { return };
        let order = event.body.order_id().map(|id| id.to_string());
        let payment = match &event.body {
            EventBody::OrderPaid(paid) => Some(paid.payment_id.to_string()),
            _ => None,
        };
        let event_id = event.event_id.to_string();
        for named in [Some(event_id), order, payment].into_iter().flatten() {
            let place = (record.partition, record.offset, why.to_owned());
            self.passed_over.insert(named, place);
        }
    }

    fn wants(&self, voucher: VoucherId) -> bool {
        self.wanted.as_ref().is_none_or(|w| w.contains(&voucher))
    }

    /// Folds the records of a partition that were read, up to `position`.
    pub(super) fn fold_to(&mut self, number: i32, position: Offset) {
        let Some(partition) = self.partitions.get_mut(&number) else {
            return;
        };
        let read = &mut partition.ahead;
        while let Some((offset, event)) = read.pop_front_if(|(offset, _)| *offset < position) {
            self.book.fold(number, offset, &event);
        }
    }

    /// Folds all that was read.
    pub(super) fn fold_rest(&mut self) {
        let numbers: Vec<_> = self.partitions.keys().copied().collect();
        for number in numbers {
            self.fold_to(number, Offset::new(i64::MAX));
        }
    }

    /// The skipped record that names this order, payment or event, and why every fold skips it.
    pub(super) fn passed_over(&self, named: &str) -> Option<&(i32, Offset, String)> {
        self.passed_over.get(named)
    }

    /// The number of records of a partition that were read.
    pub(super) fn records(&self, number: i32) -> u64 {
        self.partitions.get(&number).map_or(0, |p| p.records)
    }

    /// The offset from which on a partition is compared: its beginning, or the beginning of an accepted log.
    pub(super) fn begins(&self, number: i32) -> Offset {
        let accepted = self.accepted.get(&number);
        accepted.map_or(Offset::new(0), |accepted| accepted.from)
    }

    /// Up to where a partition was read.
    pub(super) fn read_to(&self, number: i32) -> Offset {
        let partition = self.partitions.get(&number);
        Offset::new(partition.map_or(0, |p| p.read_to))
    }
}

fn check(held: &OffsetRange, read_to: i64, position: i64) -> Result<(), Failure> {
    let partition = held.partition;
    if held.from.get() > read_to {
        return Err(Failure::Refused(format!(
            "partition {partition} of the log begins at {}, and all of it is needed: it was cut, and \
             nothing can be compared with it",
            held.from.get()
        )));
    }
    if position > held.to.get() {
        return Err(anyhow!(
            "partition {partition} ends at {}, and PostgreSQL stands at {position}: the log was cut or \
             replaced, or DATABASE_URL belongs to another log",
            held.to.get()
        )
        .into());
    }
    Ok(())
}
