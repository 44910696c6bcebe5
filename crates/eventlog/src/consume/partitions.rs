//! The partitions that a consumer has: of each, the client's queue of fetched records, and a bounded channel to its
//! reader.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::ConsumerContext;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, KafkaResult};
use seckill_domain::Offset;
use tokio::sync::mpsc;

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

/// The records of one partition that the client has fetched. While nobody takes them, it fetches no more.
pub(crate) trait Queue {
    /// The next of them, if there is one.
    fn next(&self) -> Option<KafkaResult<Record>>;
}

impl<C: ConsumerContext> Queue for PartitionQueue<C> {
    fn next(&self) -> Option<KafkaResult<Record>> {
        let message = self.poll(Duration::ZERO)?;
        Some(message.map(|message| Record::copy_of(&message)))
    }
}

struct Slot<Q> {
    queue: Q,
    records: mpsc::Sender<Record>,
    /// The lowest offset that the next record may have. Records before it were passed on already.
    next: Offset,
    /// Whether there was no room for what may be in the queue.
    is_behind: bool,
}

impl<Q: Queue> Slot<Q> {
    /// Passes on what the reader has room for, but no more than a channel full, as there is more to do. Returns
    /// whether there may be more.
    fn pass_on(&mut self, tolerate: impl Fn(KafkaError) -> KafkaResult<()>) -> KafkaResult<bool> {
        for _ in 0..self.records.max_capacity() {
            // A reader that is gone is about to ask for a restart. Until then, pass nothing on.
            let Ok(room) = self.records.try_reserve() else {
                self.is_behind = true;
                return Ok(true);
            };
            self.is_behind = false;
            match self.queue.next() {
                None => return Ok(false),
                Some(Err(error)) => tolerate(error)?,
                Some(Ok(record)) => {
                    fail::fail_point!("eventlog.deliver");
                    if record.offset >= self.next {
                        self.next = record.offset.next();
                        room.send(record);
                    }
                }
            }
        }
        Ok(true)
    }
}

/// Every partition held.
pub(crate) struct Partitions<Q> {
    slots: HashMap<i32, Slot<Q>>,
    assignments: mpsc::UnboundedSender<Assignment>,
    buffer_records: usize,
}

impl<Q: Queue> Partitions<Q> {
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
    pub(crate) fn open(&mut self, partition: i32, start: Offset, queue: Q) {
        let (sender, records) = mpsc::channel(self.buffer_records);
        let slot = Slot {
            queue,
            records: sender,
            next: start,
            is_behind: false,
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

    /// Ends a channel.
    pub(crate) fn close(&mut self, partition: i32) {
        self.slots.remove(&partition);
    }

    /// Ends all channels.
    pub(crate) fn close_all(&mut self) {
        self.slots.clear();
    }

    pub(crate) fn holds(&self, partition: i32) -> bool {
        self.slots.contains_key(&partition)
    }

    /// Passes fetched records on to the readers. Returns whether there may be more of them.
    ///
    /// # Errors
    /// What `tolerate` returns of an error of the client.
    pub(crate) fn pass_on(
        &mut self,
        tolerate: impl Fn(KafkaError) -> KafkaResult<()>,
    ) -> KafkaResult<bool> {
        let mut more = false;
        for slot in self.slots.values_mut() {
            more |= slot.pass_on(&tolerate)?;
        }
        Ok(more)
    }

    /// The partitions that wait for the next record, each with the lowest offset that it may have. Partitions
    /// whose reader is behind are left out.
    pub(crate) fn waiting(&self) -> Vec<(i32, Offset)> {
        let waiting = self.slots.iter().filter(|(_, slot)| !slot.is_behind);
        waiting
            .map(|(partition, slot)| (*partition, slot.next))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;

    use rdkafka::types::RDKafkaErrorCode;

    use super::*;
    use crate::wire::headers::Headers;

    /// What a client has fetched: offsets of records, and errors.
    #[derive(Clone, Default)]
    struct Fetched(Rc<RefCell<VecDeque<Option<i64>>>>);

    impl Fetched {
        fn of(offsets: impl IntoIterator<Item = i64>) -> Self {
            let fetched = Self::default();
            fetched.0.borrow_mut().extend(offsets.into_iter().map(Some));
            fetched
        }

        fn left(&self) -> usize {
            self.0.borrow().len()
        }
    }

    impl Queue for Fetched {
        fn next(&self) -> Option<KafkaResult<Record>> {
            let code = RDKafkaErrorCode::OffsetOutOfRange;
            let next = self.0.borrow_mut().pop_front()?;
            Some(next.map(record).ok_or(KafkaError::MessageConsumption(code)))
        }
    }

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

    type Assignments = mpsc::UnboundedReceiver<Assignment>;

    /// A consumer's partitions, with channels for `buffer` records.
    fn partitions(buffer: usize) -> (Partitions<Fetched>, Assignments) {
        let (sender, assignments) = mpsc::unbounded_channel();
        (Partitions::new(sender, buffer), assignments)
    }

    /// The reader's side of a partition that begins at 7.
    fn opened(
        (partitions, assignments): &mut (Partitions<Fetched>, Assignments),
        fetched: &Fetched,
    ) -> Assignment {
        partitions.open(0, Offset::new(7), fetched.clone());
        assignments.try_recv().unwrap()
    }

    fn passes_on(partitions: &mut Partitions<Fetched>) -> bool {
        partitions.pass_on(Err).unwrap()
    }

    fn offsets(records: &mut mpsc::Receiver<Record>) -> Vec<i64> {
        std::iter::from_fn(|| records.try_recv().ok())
            .map(|r| r.offset.get())
            .collect()
    }

    #[test]
    fn a_full_channel_leaves_the_rest_with_the_client_and_keeps_the_order() {
        let fetched = Fetched::of(7..13);
        let mut held = partitions(4);
        let mut assignment = opened(&mut held, &fetched);
        let partitions = &mut held.0;
        assert!(passes_on(partitions));
        assert!(passes_on(partitions), "no room");
        assert_eq!((fetched.left(), partitions.waiting()), (2, vec![]));

        assert_eq!(assignment.records.try_recv().unwrap().offset.get(), 7);
        assert!(passes_on(partitions));
        assert_eq!(fetched.left(), 1);
        assert_eq!(offsets(&mut assignment.records), [8, 9, 10, 11]);
        assert!(!passes_on(partitions));
        assert_eq!(offsets(&mut assignment.records), [12]);
        assert_eq!(partitions.waiting(), [(0, Offset::new(13))]);
    }

    #[test]
    fn a_record_that_was_handed_on_is_not_handed_on_again() {
        let mut held = partitions(9);
        let mut first = opened(&mut held, &Fetched::of([6, 7, 7, 8, 7]));
        assert!(!passes_on(&mut held.0));
        assert_eq!(offsets(&mut first.records), [7, 8]);

        let mut second = opened(&mut held, &Fetched::of([7]));
        assert!(first.records.is_closed(), "the old channel ends");
        assert!(!passes_on(&mut held.0));
        assert_eq!(offsets(&mut second.records), [7]);
    }

    #[test]
    fn nothing_is_taken_from_the_client_for_a_reader_that_is_gone() {
        let fetched = Fetched::of([7]);
        let mut held = partitions(1);
        drop(opened(&mut held, &fetched));
        let partitions = &mut held.0;
        assert!(passes_on(partitions));
        assert_eq!((fetched.left(), partitions.waiting()), (1, vec![]));
        partitions.close(0);
        assert!(!passes_on(partitions) && !partitions.holds(0));
    }

    #[test]
    fn an_error_between_records_loses_none_of_them() {
        let fetched = Fetched::of([7]);
        fetched.0.borrow_mut().extend([None, Some(8)]);
        let mut held = partitions(9);
        let mut assignment = opened(&mut held, &fetched);
        let partitions = &mut held.0;
        partitions.pass_on(Err).unwrap_err();
        assert!(!passes_on(partitions));
        assert_eq!(offsets(&mut assignment.records), [7, 8]);
    }
}
