//! Reading the events of a topic without a group, decoded, as one stream of batches for each partition.
//!
//! For programs that fold the log from its beginning. Nothing here writes, and no record is copied before it is decoded.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::{LogBatch, Offset};
use tokio::sync::mpsc::{self, error::TrySendError};
use uuid::Uuid;

use crate::kafka::settings::KafkaSettings;
use crate::read::reader::{Reach, ReadError, Reader, blocking, is_lasting, position};
use crate::registry::SchemaRegistry;
use crate::wire::record::{decode_event_at, sort_into};

const POLL: Duration = Duration::from_millis(20);
const POLL_WITH_BACKLOG: Duration = Duration::from_millis(2);
/// How often a reader tries to send batches that wait for room in their channel.
const UPKEEP: Duration = Duration::from_millis(20);
/// Batches that may wait for a slow receiver, a partition.
const BUFFER_BATCHES: usize = 3;

/// The batches of one partition. The stream has no end: at the end of the log it waits for the next record.
#[derive(Debug)]
pub struct EventStream {
    /// The partition.
    pub partition: i32,
    /// Where its first batch begins.
    pub from: Offset,
    batches: mpsc::Receiver<Result<LogBatch, ReadError>>,
}

impl EventStream {
    /// The next batch.
    ///
    /// # Errors
    /// [`ReadError`]: the reading is over.
    pub async fn next(&mut self) -> Result<LogBatch, ReadError> {
        let ended = || ReadError::Thread("it ended".to_owned());
        self.batches.recv().await.unwrap_or_else(|| Err(ended()))
    }
}

/// Reads the event topic, `(topic, partitions)`, from these positions on, in `threads` threads, in batches of at most `batch_max`
/// records; fewer where the log ends. Partitions don't hold each other up.
///
/// # Errors
/// [`ReadError`], also where the log no longer has, or does not have yet, one of the positions. What
/// goes wrong later comes through the streams.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn read_events(
    settings: &KafkaSettings,
    (topic, partitions): (&str, i32),
    starts: Vec<(i32, Offset)>,
    batch_max: usize,
    threads: usize,
) -> Result<Vec<EventStream>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    blocking(move || {
        let ranges = Reader::open(&settings, &topic, Reach::Whole)?.ranges;
        for (partition, start) in &starts {
            let range = ranges.iter().find(|range| range.partition == *partition);
            if !range.is_some_and(|range| (range.from..=range.to).contains(start)) {
                return Err(ReadError::NotInLog {
                    partition: *partition,
                    offset: start.get(),
                    from: range.map_or(0, |s| s.from.get()),
                    to: range.map_or(0, |s| s.to.get()),
                });
            }
        }
        let mut streams = Vec::new();
        for share in shares(&starts, threads) {
            let (lanes, mut opened) = share.iter().map(|s| PartitionBuffer::open(*s)).unzip();
            streams.append(&mut opened);
            start(&settings, &topic, partitions, batch_max, lanes)?;
        }
        Ok(streams)
    })
    .await
}

/// Distributes the partitions to the threads in turn.
fn shares(starts: &[(i32, Offset)], threads: usize) -> Vec<Vec<(i32, Offset)>> {
    let threads = threads.clamp(1, starts.len().max(1));
    let share = |n| starts.iter().skip(n).step_by(threads).copied().collect();
    (0..threads).map(share).collect()
}

fn start(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    batch_max: usize,
    lanes: Vec<PartitionBuffer>,
) -> Result<(), ReadError> {
    let consumer: BaseConsumer = settings
        .consumer_config()
        .set("group.id", format!("reader-{}", Uuid::new_v4()))
        .set("enable.partition.eof", "true")
        .create()?;
    let mut list = TopicPartitionList::new();
    for lane in &lanes {
        let offset = KafkaOffset::Offset(lane.batch.to.get());
        list.add_partition_offset(topic, lane.partition, offset)?;
    }
    consumer.assign(&list)?;
    let worker = ReaderThread {
        consumer,
        topic: topic.to_owned(),
        registry: settings.registry.clone(),
        partitions,
        batch_max,
        lanes,
    };
    let thread = std::thread::Builder::new().name("kafka-events".to_owned());
    let started = thread.spawn(move || worker.run());
    started.map_err(|e| ReadError::Thread(e.to_string()))?;
    Ok(())
}

/// One partition of a thread.
struct PartitionBuffer {
    partition: i32,
    batch: LogBatch,
    /// Where the batch began.
    begun: Offset,
    /// Full batches that the channel has no room for.
    waiting: VecDeque<LogBatch>,
    paused: bool,
    sender: mpsc::Sender<Result<LogBatch, ReadError>>,
}

impl PartitionBuffer {
    fn open((partition, from): (i32, Offset)) -> (Self, EventStream) {
        let (sender, batches) = mpsc::channel(BUFFER_BATCHES);
        let lane = Self {
            partition,
            batch: LogBatch::ending_at(from),
            begun: from,
            waiting: VecDeque::new(),
            paused: false,
            sender,
        };
        let stream = EventStream {
            partition,
            from,
            batches,
        };
        (lane, stream)
    }

    /// Ends the batch, and sends as many batches as there is room for.
    fn flush(&mut self) {
        if self.batch.to > self.begun {
            self.begun = self.batch.to;
            let next = LogBatch::ending_at(self.batch.to);
            let done = std::mem::replace(&mut self.batch, next);
            self.waiting.push_back(done);
        }
        self.send();
    }

    /// Sends as many of the full batches as there is room for.
    fn send(&mut self) {
        while let Some(batch) = self.waiting.pop_front() {
            match self.sender.try_send(Ok(batch)) {
                Ok(()) => {}
                Err(TrySendError::Full(Ok(batch))) => {
                    self.waiting.push_front(batch);
                    return;
                }
                Err(_) => return,
            }
        }
    }
}

struct ReaderThread {
    consumer: BaseConsumer,
    topic: String,
    registry: Option<SchemaRegistry>,
    partitions: i32,
    batch_max: usize,
    lanes: Vec<PartitionBuffer>,
}

impl ReaderThread {
    /// Runs until all receivers are gone, or the client fails.
    fn run(mut self) {
        if let Err(error) = self.read() {
            tracing::warn!(%error, "reading events broke off");
            let told = error.to_string();
            let first = self.lanes.first().map(|lane| lane.sender.clone());
            // If the receiver is gone, nobody needs the error.
            if let Some(sender) = first {
                let _ = sender.blocking_send(Err(error));
            }
            for lane in self.lanes.iter().skip(1) {
                let same = ReadError::Thread(told.clone());
                let _ = lane.sender.blocking_send(Err(same));
            }
        }
    }

    fn read(&mut self) -> Result<(), ReadError> {
        let mut upkeep_due = Instant::now();
        while !self.lanes.iter().all(|lane| lane.sender.is_closed()) {
            let backlog = self.lanes.iter().any(|lane| lane.paused);
            let polled = self
                .consumer
                .poll(if backlog { POLL_WITH_BACKLOG } else { POLL });
            match polled {
                Some(Ok(message)) => {
                    let partition = message.partition();
                    if let Some(lane) = self.lanes.iter_mut().find(|l| l.partition == partition) {
                        SchemaRegistry::meet_message(self.registry.as_ref(), message.payload());
                        take(lane, &message, self.partitions);
                        if lane.batch.len() >= self.batch_max {
                            lane.flush();
                        }
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let at = position(&self.consumer, &self.topic, partition)?;
                    if let Some(lane) = self.lanes.iter_mut().find(|l| l.partition == partition) {
                        lane.flush();
                        // The last offsets may belong to no record: then the batch is empty.
                        lane.batch.to = lane.batch.to.max(at);
                        lane.flush();
                    }
                }
                Some(Err(error)) if is_lasting(&error) => return Err(error.into()),
                Some(Err(error)) => {
                    tracing::warn!(%error, "reading events goes on after an error");
                }
                // No record comes at the moment: send what is there.
                None => self.lanes.iter_mut().for_each(PartitionBuffer::flush),
            }
            if backlog && Instant::now() >= upkeep_due {
                upkeep_due = Instant::now() + UPKEEP;
                self.lanes.iter_mut().for_each(PartitionBuffer::send);
            }
            self.pause_and_resume()?;
        }
        Ok(())
    }

    /// Stops fetching for partitions whose receiver is behind, and for no others.
    fn pause_and_resume(&mut self) -> Result<(), ReadError> {
        let topic = &self.topic;
        for lane in &mut self.lanes {
            if lane.paused != lane.waiting.is_empty() {
                continue;
            }
            let mut list = TopicPartitionList::new();
            list.add_partition(topic, lane.partition);
            if lane.paused {
                self.consumer.resume(&list)?;
            } else {
                self.consumer.pause(&list)?;
            }
            lane.paused = !lane.paused;
        }
        Ok(())
    }
}

fn take(lane: &mut PartitionBuffer, message: &impl Message, partitions: i32) {
    let (partition, offset) = (message.partition(), Offset::new(message.offset()));
    // A resumed partition may come again from a little earlier.
    if offset < lane.batch.to {
        return;
    }
    lane.batch.to = offset.next();
    let read = decode_event_at(partition, partitions, message.key(), message.payload());
    sort_into(&mut lane.batch, offset, read);
}
