//! The partitions that a consumer has: a bounded channel for each, and what to do when it is full.

use std::collections::{HashMap, VecDeque};

use seckill_domain::Offset;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::wire::record::Record;

/// A partition that this process reads from now on, until `records` ends.
#[derive(Debug)]
pub struct Assignment {
    /// The partition.
    pub partition: i32,
    /// The offset of the first record that comes, if there is one with it.
    pub start: Offset,
    /// Its records in order. Ends when the partition goes to another process, is restarted, or the
    /// consumer stops.
    pub records: mpsc::Receiver<Record>,
}

/// What is to be done with the client after a record was handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// Nothing.
    Go,
    /// The channel is full: pause the partition.
    Pause,
}

struct Slot {
    records: mpsc::Sender<Record>,
    /// The lowest offset that the next record may have. Records before it were passed on already.
    next: Offset,
    /// Records that came while the channel was full. The partition is paused while there are any.
    backlog: VecDeque<Record>,
}

/// Every partition held, and its channel.
pub(crate) struct Partitions {
    slots: HashMap<i32, Slot>,
    assignments: mpsc::UnboundedSender<Assignment>,
    buffer_records: usize,
}

impl Partitions {
    pub(crate) fn new(
        assignments: mpsc::UnboundedSender<Assignment>,
        buffer_records: usize,
    ) -> Self {
        Self {
            slots: HashMap::new(),
            assignments,
            buffer_records,
        }
    }

    /// A new channel, and the old one, if there was one, ends.
    pub(crate) fn open(&mut self, partition: i32, start: Offset) {
        let (sender, records) = mpsc::channel(self.buffer_records);
        let slot = Slot {
            records: sender,
            next: start,
            backlog: VecDeque::new(),
        };
        self.slots.insert(partition, slot);
        let assignment = Assignment {
            partition,
            start,
            records,
        };
        // The receiver is gone: the process is stopping, and the channel ends with this call.
        let _ = self.assignments.send(assignment);
    }

    /// Ends a channel. True if the partition is paused.
    pub(crate) fn close(&mut self, partition: i32) -> bool {
        let slot = self.slots.remove(&partition);
        slot.is_some_and(|slot| !slot.backlog.is_empty())
    }

    pub(crate) fn holds(&self, partition: i32) -> bool {
        self.slots.contains_key(&partition)
    }

    /// Passes a record on to the partition's reader.
    pub(crate) fn deliver(&mut self, record: Record) -> Flow {
        let Some(slot) = self.slots.get_mut(&record.partition) else {
            return Flow::Go;
        };
        if record.offset < slot.next {
            return Flow::Go;
        }
        slot.next = record.offset.next();
        if slot.backlog.is_empty() {
            match slot.records.try_send(record) {
                Ok(()) => return Flow::Go,
                // A reader that is gone is about to ask for a restart. Until then, pass nothing on.
                Err(TrySendError::Full(record) | TrySendError::Closed(record)) => {
                    slot.backlog.push_back(record);
                }
            }
        } else {
            slot.backlog.push_back(record);
        }
        Flow::Pause
    }

    /// Passes waiting records on where the channel is half empty again. Returns the partitions that
    /// can be resumed.
    pub(crate) fn drain(&mut self) -> Vec<i32> {
        let mut resumed = Vec::new();
        for (partition, slot) in &mut self.slots {
            let half_empty = slot.records.capacity() >= slot.records.max_capacity().div_ceil(2);
            if slot.backlog.is_empty() || slot.records.is_closed() || !half_empty {
                continue;
            }
            while let Some(record) = slot.backlog.pop_front() {
                if let Err(TrySendError::Full(record) | TrySendError::Closed(record)) =
                    slot.records.try_send(record)
                {
                    slot.backlog.push_front(record);
                    break;
                }
            }
            if slot.backlog.is_empty() {
                resumed.push(*partition);
            }
        }
        resumed
    }

    /// The partitions that wait for the next record, each with the lowest offset that it may have. Partitions
    /// whose reader is behind are left out.
    pub(crate) fn waiting(&self) -> Vec<(i32, Offset)> {
        let waiting = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.backlog.is_empty());
        waiting
            .map(|(partition, slot)| (*partition, slot.next))
            .collect()
    }

    /// Whether any record waits for its reader.
    pub(crate) fn has_backlog(&self) -> bool {
        self.slots.values().any(|slot| !slot.backlog.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers::Headers;

    fn record(offset: i64) -> Record {
        Record {
            partition: 0,
            offset: Offset::new(offset),
            key: None,
            payload: None,
            headers: Headers::default(),
            timestamp_ms: None,
        }
    }

    fn offsets(records: &mut mpsc::Receiver<Record>) -> Vec<i64> {
        std::iter::from_fn(|| records.try_recv().ok())
            .map(|r| r.offset.get())
            .collect()
    }

    #[test]
    fn a_full_channel_keeps_order_and_loses_nothing() {
        let (sender, mut assignments) = mpsc::unbounded_channel();
        let mut partitions = Partitions::new(sender, 4);
        partitions.open(0, Offset::new(7));
        let mut records = assignments.try_recv().unwrap().records;
        let flows: Vec<_> = (7..13).map(|n| partitions.deliver(record(n))).collect();
        assert_eq!(flows[3..], [Flow::Go, Flow::Pause, Flow::Pause]);

        assert_eq!(records.try_recv().unwrap().offset, Offset::new(7));
        assert!(partitions.drain().is_empty(), "one free place of four");
        assert!(partitions.has_backlog());
        assert_eq!(records.try_recv().unwrap().offset, Offset::new(8));
        assert_eq!(partitions.drain(), [0]);
        assert!(!partitions.has_backlog());
        assert_eq!(offsets(&mut records), [9, 10, 11, 12]);
    }

    #[test]
    fn a_record_that_was_handed_on_is_not_handed_on_again() {
        let (sender, mut assignments) = mpsc::unbounded_channel();
        let mut partitions = Partitions::new(sender, 4);
        partitions.open(0, Offset::new(7));
        let mut records = assignments.try_recv().unwrap().records;
        for offset in [6, 7, 7, 8, 7] {
            assert_eq!(partitions.deliver(record(offset)), Flow::Go);
        }
        assert_eq!(offsets(&mut records), [7, 8]);

        partitions.open(0, Offset::new(7));
        assert!(records.is_closed(), "the old channel ends");
        let mut records = assignments.try_recv().unwrap().records;
        partitions.deliver(record(7));
        assert_eq!(offsets(&mut records), [7]);
    }

    #[test]
    fn closing_says_whether_the_partition_is_paused() {
        let (sender, mut assignments) = mpsc::unbounded_channel();
        let mut partitions = Partitions::new(sender, 1);
        partitions.open(0, Offset::new(0));
        let assignment = assignments.try_recv().unwrap();
        partitions.deliver(record(0));
        assert_eq!(partitions.deliver(record(1)), Flow::Pause);
        assert!(partitions.close(0));
        assert!(!partitions.close(0));
        assert!(assignment.records.is_closed());
        assert_eq!(partitions.deliver(record(2)), Flow::Go, "no longer ours");
    }
}
