//! Reading a topic without a group: its new records, all of it, or a part of it once.

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::Offset;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::kafka::progress::{Kind, LOOK_EVERY, Verdict, Watch};
use crate::kafka::settings::{KafkaSettings, watermarks};
use crate::kafka::topics::{TopicError, partition_count};
use crate::kafka::witness::Witness;
use crate::registry::SchemaRegistry;
use crate::wire::record::Record;

const POLL: Duration = Duration::from_millis(100);
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a topic could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The topic is missing, or nobody answers.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The client failed.
    #[error("the Kafka reader failed")]
    Client(#[from] KafkaError),
    /// Records are missing, and none came for a while.
    #[error(
        "topic {topic} was not read to the end: nothing came for a while; the last error was: {last_error}"
    )]
    TimedOut {
        /// The topic.
        topic: String,
        /// What the client said last.
        last_error: String,
    },
    /// No record came, although a new client would have read one.
    #[error("the reader of topic {topic} gets nothing while a fresh client does: it is given up")]
    Stuck {
        /// The topic.
        topic: String,
    },
    /// The log no longer has this position, or does not have it yet.
    #[error(
        "partition {partition} has records {from} to {to}, and {offset} is needed: the log was cut, or this is another one"
    )]
    NotInLog {
        /// The partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
        /// The oldest record.
        from: i64,
        /// The end.
        to: i64,
    },
    /// The thread could not be started, or ended without giving a reason.
    #[error("the reader's thread failed: {0}")]
    Thread(String),
}

/// The records of one partition in `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetRange {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: Offset,
    /// The offset after the last.
    pub to: Offset,
}

impl OffsetRange {
    /// How many offsets it has; 0 where it ends before it begins.
    #[must_use]
    pub fn len(&self) -> u64 {
        u64::try_from(self.to.get() - self.from.get()).unwrap_or(0)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What comes from now on.
    Tail,
    /// What is there.
    Whole,
}

/// What a reading goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next record.
    Record,
    /// The next of another partition.
    OtherPartition,
    /// Nothing.
    End,
}

pub(crate) struct Reader {
    pub(crate) consumer: BaseConsumer<Witness>,
    topic: String,
    registry: Option<SchemaRegistry>,
    /// Each partition's records when reading began.
    pub(crate) ranges: Vec<OffsetRange>,
}

impl Reader {
    pub(crate) fn open(
        settings: &KafkaSettings,
        topic: &str,
        reach: Reach,
    ) -> Result<Self, ReadError> {
        // Whoever follows a topic is always at its end: the client would call that an error each time.
        let (mut config, tells_of_ends) = match reach {
            Reach::Tail => (settings.following_config(), "false"),
            Reach::Whole => (settings.consumer_config(), "true"),
        };
        // The client wants a group's name to assign anything, but no group is joined.
        let consumer: BaseConsumer<Witness> = config
            .set("group.id", format!("reader-{}", Uuid::new_v4()))
            .set("enable.partition.eof", tells_of_ends)
            .create_with_context(Witness::default())?;
        let mut ranges = Vec::new();
        let deadline = Instant::now() + OPEN_TIMEOUT;
        for partition in 0..partition_count(&consumer, topic)? {
            let (low, high) = watermarks(consumer.client(), topic, partition, deadline)?;
            ranges.push(OffsetRange {
                partition,
                from: Offset::new(low),
                to: Offset::new(high),
            });
        }
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            registry: settings.registry.clone(),
            ranges,
        })
    }

    /// Offsets as numbers, not "the end", so that every record that is written after this call is read.
    pub(crate) fn assign(&self, starts: &[(i32, Offset)]) -> Result<(), ReadError> {
        let mut list = TopicPartitionList::new();
        for (partition, start) in starts {
            let offset = KafkaOffset::Offset(start.get());
            list.add_partition_offset(&self.topic, *partition, offset)?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    /// A record whose schema is known, if the registry knows it.
    fn copy_of(&self, message: &BorrowedMessage<'_>) -> Record {
        SchemaRegistry::meet_message(self.registry.as_ref(), message.payload());
        Record::copy_of(message)
    }

    fn follow<T>(
        &self,
        picked: &mpsc::Sender<Result<T, ReadError>>,
        mut pick: impl FnMut(&[u8]) -> Option<T>,
        watch: Watch,
    ) {
        let mut watched = Watched {
            watch,
            look_due: Instant::now(),
        };
        // If the receiver is gone, nobody needs the records.
        while !picked.is_closed() {
            if let Err(error) = watched.look(self) {
                let _ = picked.blocking_send(Err(error));
                return;
            }
            match self.consumer.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Ok(message)) => {
                    if let Some(wanted) = pick(message.key().unwrap_or_default()) {
                        let _ = picked.blocking_send(Ok(wanted));
                    }
                }
                Some(Err(error)) if is_lasting(&error) => {
                    let _ = picked.blocking_send(Err(error.into()));
                    return;
                }
                Some(Err(error)) => tracing::warn!(%error, "the tail goes on after an error"),
            }
        }
    }

    /// Hands the records of `ranges`, which are in the log, to `sink` until it has enough. Those of
    /// one partition are in their order.
    pub(crate) fn read(
        &self,
        ranges: &[OffsetRange],
        idle_timeout: Duration,
        mut sink: impl FnMut(Record) -> Next,
    ) -> Result<(), ReadError> {
        let mut open: Vec<_> = ranges.iter().filter(|s| !s.is_empty()).collect();
        let starts: Vec<_> = open.iter().map(|s| (s.partition, s.from)).collect();
        self.assign(&starts)?;
        let mut deadline = Instant::now() + idle_timeout;
        let mut last_error = "none".to_owned();
        while !open.is_empty() {
            if Instant::now() >= deadline {
                return Err(ReadError::TimedOut {
                    topic: self.topic.clone(),
                    last_error,
                });
            }
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    if let Some(range) = open.iter().find(|s| s.partition == partition) {
                        let to = range.to.get();
                        let wanted = if next <= to {
                            sink(self.copy_of(&message))
                        } else {
                            Next::OtherPartition
                        };
                        match wanted {
                            Next::Record if next < to => {}
                            Next::Record | Next::OtherPartition => {
                                open.retain(|s| s.partition != partition);
                            }
                            Next::End => return Ok(()),
                        }
                        deadline = Instant::now() + idle_timeout;
                    }
                }
                // The last offsets of a partition may belong to no record. An end that comes before
                // them is a leader's that has not heard yet how far the others are.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    let at = position(&self.consumer, &self.topic, partition)?;
                    open.retain(|s| s.partition != partition || at < s.to);
                }
                Some(Err(error)) if is_lasting(&error) => return Err(error.into()),
                Some(Err(error)) => {
                    tracing::warn!(%error, "reading goes on after an error");
                    last_error = error.to_string();
                }
            }
        }
        Ok(())
    }
}

/// A tail under watch.
struct Watched {
    watch: Watch,
    look_due: Instant,
}

impl Watched {
    fn look(&mut self, reader: &Reader) -> Result<(), ReadError> {
        if Instant::now() < self.look_due {
            return Ok(());
        }
        self.look_due = Instant::now() + LOOK_EVERY;
        let mut stand = Vec::with_capacity(reader.ranges.len());
        for range in &reader.ranges {
            let at = position(&reader.consumer, &reader.topic, range.partition)?;
            stand.push((range.partition, at.max(range.to).get()));
        }
        match self.watch.look(&stand) {
            Verdict::Fine | Verdict::Doubtful => Ok(()),
            Verdict::Stuck => Err(ReadError::Stuck {
                topic: reader.topic.clone(),
            }),
        }
    }
}

/// Where a client stands in a partition: past offsets that belong to no record, too.
pub(crate) fn position<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: i32,
) -> Result<Offset, KafkaError> {
    let positions = consumer.position()?;
    let element = positions.find_partition(topic, partition);
    match element.map(|e| e.offset()) {
        Some(KafkaOffset::Offset(offset)) => Ok(Offset::new(offset)),
        _ => Ok(Offset::new(0)),
    }
}

/// The client recovers from most errors by itself, but not from a position that the log does not have, and
/// not from a fatal error.
pub(crate) fn is_lasting(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)
    )
}

/// Follows a topic from its present end, outside any group. `pick` sees the key of everything that is written
/// after this returned, on the reader's own thread, as long as the receiver is kept; what it makes of a key
/// arrives there. A slow receiver holds the reading up, at `buffer` of them. It ends with an error, and never
/// without one.
///
/// # Errors
/// [`ReadError`] when the topic's end cannot be found.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn tail<T: Send + 'static>(
    settings: &KafkaSettings,
    topic: &str,
    buffer: usize,
    pick: impl FnMut(&[u8]) -> Option<T> + Send + 'static,
) -> Result<mpsc::Receiver<Result<T, ReadError>>, ReadError> {
    let watch = Watch::new("outcome-tail", Kind::Reads, settings, topic);
    let (settings, topic) = (settings.clone(), topic.to_owned());
    let reader = blocking(move || {
        let reader = Reader::open(&settings, &topic, Reach::Tail)?;
        let ends: Vec<_> = reader.ranges.iter().map(|s| (s.partition, s.to)).collect();
        reader.assign(&ends)?;
        Ok(reader)
    });
    let reader = reader.await?;
    let (sender, picked) = mpsc::channel(buffer);
    std::thread::Builder::new()
        .name("kafka-tail".to_owned())
        .spawn(move || reader.follow(&sender, pick, watch))
        .map_err(|e| ReadError::Thread(e.to_string()))?;
    Ok(picked)
}

/// Reads a topic once, from its beginning to where it ends at this moment. Records of one
/// partition are in their order. For tools and tests: all of it is in memory.
///
/// # Errors
/// [`ReadError`], also when nothing comes for `idle_timeout`.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn read_all(
    settings: &KafkaSettings,
    topic: &str,
    idle_timeout: Duration,
) -> Result<Vec<Record>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    blocking(move || {
        let reader = Reader::open(&settings, &topic, Reach::Whole)?;
        let mut records = Vec::new();
        reader.read(&reader.ranges, idle_timeout, |record| {
            records.push(record);
            Next::Record
        })?;
        Ok(records)
    })
    .await
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ReadError::Thread(e.to_string())))
}
