//! Reading the events of a topic without a group, decoded, as one stream of batches for each partition.
//!
//! For programs that fold the log from its beginning. Nothing here writes, and no record is copied before it is decoded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::{LogBatch, Offset};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Permit};
use uuid::Uuid;

use crate::kafka::settings::KafkaSettings;
use crate::read::reader::{Reach, ReadError, Reader, blocking, is_lasting, position};
use crate::registry::SchemaRegistry;
use crate::wire::record::{decode_event_at, sort_into};

/// How long the thread rests if nothing wakes it, and after how long without a record a batch that is not full is sent.
const REST: Duration = Duration::from_millis(20);
/// The same while a receiver is behind.
const REST_WITH_BACKLOG: Duration = Duration::from_millis(2);
const PAST_ITS_QUEUE: &str = "a record came past the queue of its partition";
/// Batches that may wait for a slow receiver, a partition.
const BUFFER_BATCHES: usize = 3;

/// The batches of one partition. The stream has no end: at the end of the log it waits for the next record.
#[derive(Debug)]
pub struct EventStream {
    /// The partition.
    pub partition: i32,
    /// Where its first batch begins.
    pub from: Offset,
    batches: mpsc::Receiver<Batch>,
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
            streams.extend(start(&settings, &topic, partitions, batch_max, &share)?);
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

/// Starts the thread that reads these partitions.
fn start(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    batch_max: usize,
    starts: &[(i32, Offset)],
) -> Result<Vec<EventStream>, ReadError> {
    let consumer: BaseConsumer = settings
        .consumer_config()
        .set("group.id", format!("reader-{}", Uuid::new_v4()))
        .set("enable.partition.eof", "true")
        .create()?;
    let consumer = Arc::new(consumer);
    let mut list = TopicPartitionList::new();
    let (mut lanes, mut streams) = (Vec::new(), Vec::new());
    for (partition, from) in starts {
        list.add_partition_offset(topic, *partition, KafkaOffset::Offset(from.get()))?;
        // Before the partition is assigned: what is fetched before it would go to the queue of all.
        let queue = consumer.split_partition_queue(topic, *partition);
        let queue = queue.ok_or(KafkaError::Canceled)?;
        let (sender, batches) = mpsc::channel(BUFFER_BATCHES);
        lanes.push(Lane {
            queue,
            growing: GrowingBatch::begin(*from),
            sender,
        });
        streams.push(EventStream {
            partition: *partition,
            from: *from,
            batches,
        });
    }
    let worker = ReaderThread {
        lanes,
        consumer,
        topic: topic.to_owned(),
        registry: settings.registry.clone(),
        partitions,
        batch_max,
    };
    let thread = std::thread::Builder::new().name("kafka-events".to_owned());
    let started = thread.spawn(move || worker.run(&list));
    started.map_err(|e| ReadError::Thread(e.to_string()))?;
    Ok(streams)
}

/// One partition of a thread.
struct Lane {
    /// What the client has fetched of it. While nobody takes that, it fetches no more.
    queue: PartitionQueue<DefaultConsumerContext>,
    growing: GrowingBatch,
    sender: mpsc::Sender<Batch>,
}

type Batch = Result<LogBatch, ReadError>;

/// The batch that is read, until it is sent.
struct GrowingBatch {
    batch: LogBatch,
    /// Where the batch began.
    begun: Offset,
    /// When the last record came.
    grown: Instant,
}

impl GrowingBatch {
    fn begin(from: Offset) -> Self {
        Self {
            batch: LogBatch::ending_at(from),
            begun: from,
            grown: Instant::now(),
        }
    }

    fn take(&mut self, message: &impl Message, partitions: i32) {
        self.grown = Instant::now();
        let (partition, offset) = (message.partition(), Offset::new(message.offset()));
        if offset < self.batch.to {
            return;
        }
        self.batch.to = offset.next();
        let read = decode_event_at(partition, partitions, message.key(), message.payload());
        sort_into(&mut self.batch, offset, read);
    }

    /// Sends the batch into the room that was reserved for it, unless it has nothing.
    fn flush(&mut self, room: Permit<'_, Batch>) {
        if self.batch.to > self.begun {
            self.begun = self.batch.to;
            let next = LogBatch::ending_at(self.batch.to);
            room.send(Ok(std::mem::replace(&mut self.batch, next)));
        }
    }
}

struct ReaderThread {
    /// Their queues keep the consumer: they go first.
    lanes: Vec<Lane>,
    consumer: Arc<BaseConsumer>,
    topic: String,
    registry: Option<SchemaRegistry>,
    partitions: i32,
    batch_max: usize,
}

impl ReaderThread {
    /// Runs until all receivers are gone, or the client fails.
    fn run(mut self, starts: &TopicPartitionList) {
        if let Err(error) = self.read(starts) {
            tracing::warn!(%error, "reading events broke off");
            let told = error.to_string();
            let mut error = Some(error);
            for lane in &self.lanes {
                let same = || ReadError::Thread(told.clone());
                let error = error.take().unwrap_or_else(same);
                // If the receiver is gone, nobody needs the error.
                let _ = lane.sender.blocking_send(Err(error));
            }
        }
    }

    fn read(&mut self, starts: &TopicPartitionList) -> Result<(), ReadError> {
        for lane in &mut self.lanes {
            let thread = std::thread::current();
            lane.queue.set_nonempty_callback(move || thread.unpark());
        }
        self.consumer.assign(starts)?;
        while !self.lanes.iter().all(|lane| lane.sender.is_closed()) {
            while let Some(event) = self.consumer.poll(Duration::ZERO) {
                match event {
                    // Without it, what is read would have a hole.
                    Ok(_) => return Err(ReadError::Thread(PAST_ITS_QUEUE.to_owned())),
                    Err(error) => tolerate(error)?,
                }
            }
            let mut rest = REST;
            for at in 0..self.lanes.len() {
                rest = rest.min(self.read_batch(at)?);
            }
            if !rest.is_zero() {
                std::thread::park_timeout(rest);
            }
        }
        Ok(())
    }

    /// Reads what is there of one partition, at most a batch, if there is room for it. Returns after which time there
    /// may be more to do.
    fn read_batch(&mut self, lane: usize) -> Result<Duration, ReadError> {
        let Lane {
            queue,
            growing,
            sender,
        } = &mut self.lanes[lane];
        let room = match sender.try_reserve() {
            Ok(room) => room,
            Err(TrySendError::Full(())) => return Ok(REST_WITH_BACKLOG),
            Err(TrySendError::Closed(())) => return Ok(REST),
        };
        loop {
            match queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    SchemaRegistry::meet_message(self.registry.as_ref(), message.payload());
                    growing.take(&message, self.partitions);
                    if growing.batch.len() >= self.batch_max {
                        growing.flush(room);
                        return Ok(Duration::ZERO);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // The last offsets may belong to no record: then the batch is empty.
                    let at = position(&self.consumer, &self.topic, partition)?;
                    growing.batch.to = growing.batch.to.max(at);
                    growing.flush(room);
                    return Ok(Duration::ZERO);
                }
                Some(Err(error)) => tolerate(error)?,
                None => {
                    if growing.grown.elapsed() >= REST {
                        growing.flush(room);
                    }
                    return Ok(REST);
                }
            }
        }
    }
}

/// The client recovers from all but lasting errors.
fn tolerate(error: KafkaError) -> Result<(), ReadError> {
    if is_lasting(&error) {
        return Err(error.into());
    }
    tracing::warn!(%error, "reading events goes on after an error");
    Ok(())
}
