//! Reading a topic outside any group: its end as it grows, or all of it once.

use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::record::Record;
use crate::settings::{KafkaSettings, watermarks};
use crate::topics::{TopicError, partition_count};

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
    /// The end was not reached in time.
    #[error("the end of topic {topic} was not reached in time")]
    TimedOut {
        /// The topic.
        topic: String,
    },
    /// The thread could not be started, or ended without a word.
    #[error("the reader's thread failed: {0}")]
    Thread(String),
}

/// The ends of a partition when reading began.
struct Span {
    partition: i32,
    low: i64,
    high: i64,
}

struct Reader {
    consumer: BaseConsumer,
    topic: String,
    spans: Vec<Span>,
}

impl Reader {
    fn open(settings: &KafkaSettings, topic: &str, reset: &str) -> Result<Self, ReadError> {
        // The client wants a group's name to assign anything, but no group is joined.
        let consumer: BaseConsumer = settings
            .client_config()
            .set("group.id", format!("reader-{}", Uuid::new_v4()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", reset)
            .create()?;
        let mut spans = Vec::new();
        let deadline = Instant::now() + OPEN_TIMEOUT;
        for partition in 0..partition_count(&consumer, topic)? {
            let (low, high) = watermarks(consumer.client(), topic, partition, deadline)?;
            spans.push(Span {
                partition,
                low,
                high,
            });
        }
        Ok(Self {
            consumer,
            topic: topic.to_owned(),
            spans,
        })
    }

    /// Offsets in numbers, not "the end": what is written after this call is read.
    fn assign(&self, start: impl Fn(&Span) -> i64) -> Result<(), ReadError> {
        let mut list = TopicPartitionList::new();
        for span in &self.spans {
            let offset = KafkaOffset::Offset(start(span));
            list.add_partition_offset(&self.topic, span.partition, offset)?;
        }
        Ok(self.consumer.assign(&list)?)
    }

    fn follow(&self, records: &mpsc::Sender<Record>) {
        while !records.is_closed() {
            match self.consumer.poll(POLL) {
                None | Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Ok(message)) => {
                    if records.blocking_send(Record::copy_of(&message)).is_err() {
                        return;
                    }
                }
                Some(Err(error)) => tracing::warn!(%error, "the tail goes on after an error"),
            }
        }
    }

    fn read_to_end(&self, timeout: Duration) -> Result<Vec<Record>, ReadError> {
        let deadline = Instant::now() + timeout;
        let mut open: Vec<_> = self.spans.iter().filter(|s| s.low < s.high).collect();
        let mut records = Vec::new();
        while !open.is_empty() {
            if Instant::now() >= deadline {
                return Err(ReadError::TimedOut {
                    topic: self.topic.clone(),
                });
            }
            match self.consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    if let Some(span) = open.iter().find(|s| s.partition == partition) {
                        let last = offset + 1 >= span.high;
                        if offset < span.high {
                            records.push(Record::copy_of(&message));
                        }
                        open.retain(|s| s.partition != partition || !last);
                    }
                }
                // The last offsets of a partition may belong to no record.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    open.retain(|s| s.partition != partition);
                }
                Some(Err(KafkaError::MessageConsumption(code))) => {
                    tracing::warn!(%code, "reading goes on after an error");
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(records)
    }
}

/// Follows a topic from its present end, outside any group. Everything that is written after this
/// returned comes, as long as the receiver is kept; a slow receiver holds the reading up, at
/// `buffer_records` records.
///
/// # Errors
/// [`ReadError`] when the topic's end cannot be found.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn tail(
    settings: &KafkaSettings,
    topic: &str,
    buffer_records: usize,
) -> Result<mpsc::Receiver<Record>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    let reader = blocking(move || {
        let reader = Reader::open(&settings, &topic, "latest")?;
        reader.assign(|span| span.high)?;
        Ok(reader)
    });
    let reader = reader.await?;
    let (sender, records) = mpsc::channel(buffer_records);
    std::thread::Builder::new()
        .name("kafka-tail".to_owned())
        .spawn(move || reader.follow(&sender))
        .map_err(|e| ReadError::Thread(e.to_string()))?;
    Ok(records)
}

/// Reads a topic once, from its beginning to where it ends at this moment. Records of one
/// partition are in their order. For tools and tests: all of it is in memory.
///
/// # Errors
/// [`ReadError`], also when that takes longer than `timeout`.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn read_all(
    settings: &KafkaSettings,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<Record>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    blocking(move || {
        let reader = Reader::open(&settings, &topic, "earliest")?;
        reader.assign(|span| span.low)?;
        reader.read_to_end(timeout)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(ReadError::Thread(e.to_string())))
}
