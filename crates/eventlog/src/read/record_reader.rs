//! Reading single records of a partition again: the last one that a view has folded, and those that it skipped.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::{EventBody, EventId, Offset, RecordSkipped};
use uuid::Uuid;

use crate::kafka::settings::{KafkaSettings, watermarks};
use crate::read::reader::{OffsetRange, ReadError, blocking, is_lasting};
use crate::read::scan::Backlog;
use crate::registry::SchemaRegistry;
use crate::wire::events::decode_event;
use crate::wire::record::Record;
use crate::wire::schemas::{RecordKind, kind_of};

const POLL: Duration = Duration::from_millis(20);
/// Long enough for a new client to sign in at a slow broker.
const WATERMARK_TIMEOUT: Duration = Duration::from_secs(5);
/// After this long without a record, and without the end, reading has failed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);
/// If at most so many records are in between, they are read, because that is cheaper than another request.
const GAP_MAX: i64 = 2_000;
/// A reading of more records has a client of its own, because the other questions would wait for its end.
const QUESTION_MAX: u64 = 2_000;

/// One client that reads a few records of any partition of a topic, one question after the other. A clone
/// asks through the same client. A client that gave no answer is given up, as it may have lost a leader for ever
/// (confluentinc/librdkafka#5430): the next question goes to a new one.
#[derive(Clone)]
pub struct RecordReader {
    inner: Arc<Inner>,
}

struct Inner {
    settings: KafkaSettings,
    topic: String,
    client: Mutex<Option<BaseConsumer>>,
}

impl RecordReader {
    /// Makes the client; it connects with the first question.
    ///
    /// # Errors
    /// [`KafkaError`] for settings that the client refuses.
    pub fn new(settings: &KafkaSettings, topic: &str) -> Result<Self, KafkaError> {
        let client = new_client(settings)?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings: settings.clone(),
                topic: topic.to_owned(),
                client: Mutex::new(Some(client)),
            }),
        })
    }

    /// The first record at `offset` or behind it; none where only the log's end follows.
    ///
    /// # Errors
    /// [`ReadError`], and [`ReadError::NotInLog`] where the partition begins behind `offset` or ends before.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn first_from(
        &self,
        partition: i32,
        offset: Offset,
    ) -> Result<Option<Record>, ReadError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut found = None;
            inner.each(partition, offset, |message| {
                found = Some(Record::copy_of(message));
                ControlFlow::Break(())
            })?;
            Ok(found)
        })
        .await
    }

    /// What each of the first `partitions` partitions holds at this moment.
    ///
    /// # Errors
    /// [`ReadError`] when the cluster does not answer.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn held(&self, partitions: i32) -> Result<Vec<OffsetRange>, ReadError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            inner.ask(|client| {
                let held = (0..partitions).map(|partition| inner.offset_range(client, partition));
                held.collect()
            })
        })
        .await
    }

    /// [`backlog`](crate::backlog), without a client of its own.
    ///
    /// # Errors
    /// As [`Self::first_from`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn backlog(
        &self,
        unread: &[OffsetRange],
    ) -> Result<HashMap<i32, Backlog>, ReadError> {
        let mut found = HashMap::new();
        for range in unread.iter().filter(|range| !range.is_empty()) {
            let first = self.first_from(range.partition, range.from).await?;
            let backlog = first.and_then(|first| Backlog::of(range, &first));
            found.extend(backlog.map(|backlog| (range.partition, backlog)));
        }
        Ok(found)
    }

    /// Those of the records at `offsets`, ascending, that are there.
    ///
    /// # Errors
    /// As [`Self::first_from`], of the first offset.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn at(&self, partition: i32, offsets: Vec<Offset>) -> Result<Vec<Record>, ReadError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut found = Vec::with_capacity(offsets.len());
            for run in offsets.chunk_by(|a, b| b.get() - a.get() <= GAP_MAX) {
                inner.run(partition, run, &mut found)?;
            }
            Ok(found)
        })
        .await
    }

    /// The decisions of operators to skip a record, from `from` to where the partition ends at this moment.
    ///
    /// # Errors
    /// As [`Self::first_from`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn skips(
        &self,
        partition: i32,
        from: Offset,
    ) -> Result<Vec<(EventId, RecordSkipped)>, ReadError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let mut found = Vec::new();
            let see = |message: &BorrowedMessage<'_>| {
                found.extend(message.payload().and_then(skip_in));
                ControlFlow::Continue(())
            };
            let held = inner.held(partition)?;
            if (OffsetRange { from, ..held }).len() <= QUESTION_MAX {
                inner.each_in(held, from, see)?;
            } else {
                inner.each_by(&new_client(&inner.settings)?, held, from, see)?;
            }
            found.retain(|(_, skip)| skip.partition == partition);
            Ok(found)
        })
        .await
    }
}

fn skip_in(payload: &[u8]) -> Option<(EventId, RecordSkipped)> {
    if kind_of(payload) != Some(RecordKind::RecordSkipped) {
        return None;
    }
    let event = decode_event(payload).ok()?;
    match event.body {
        EventBody::RecordSkipped(skip) => Some((event.event_id, skip)),
        _ => None,
    }
}

fn new_client(settings: &KafkaSettings) -> Result<BaseConsumer, KafkaError> {
    settings
        .consumer_config()
        .set("group.id", format!("reader-{}", Uuid::new_v4()))
        .set("enable.partition.eof", "true")
        // The last request may still be running when the next one comes.
        .set("fetch.wait.max.ms", "10")
        .set("queued.min.messages", "1000")
        .create()
}

impl Inner {
    /// Asks the client, which is kept if it gave an answer.
    fn ask<T>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut kept = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match kept.take() {
            Some(client) => client,
            None => new_client(&self.settings)?,
        };
        let answer = question(&client);
        if matches!(answer, Ok(_) | Err(ReadError::NotInLog { .. })) {
            *kept = Some(client);
        }
        answer
    }

    fn offset_range(
        &self,
        client: &BaseConsumer,
        partition: i32,
    ) -> Result<OffsetRange, ReadError> {
        let deadline = Instant::now() + WATERMARK_TIMEOUT;
        let (low, high) = watermarks(client.client(), &self.topic, partition, deadline)?;
        Ok(OffsetRange {
            partition,
            from: Offset::new(low),
            to: Offset::new(high),
        })
    }

    /// What the partition holds at this moment.
    fn held(&self, partition: i32) -> Result<OffsetRange, ReadError> {
        self.ask(|client| self.offset_range(client, partition))
    }

    /// Adds those of the records at `offsets` that are there.
    fn run(
        &self,
        partition: i32,
        offsets: &[Offset],
        found: &mut Vec<Record>,
    ) -> Result<(), ReadError> {
        let (Some(first), Some(last)) = (offsets.first(), offsets.last()) else {
            return Ok(());
        };
        self.each(partition, *first, |message| {
            let at = Offset::new(message.offset());
            if offsets.binary_search(&at).is_ok() {
                found.push(Record::copy_of(message));
            }
            if at < *last {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })
    }

    /// Passes every record from `from` to where the partition ends at this moment to `see`, until that returns a break.
    /// Records may come faster than they are read: their end would never be reached.
    fn each(
        &self,
        partition: i32,
        from: Offset,
        see: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.each_in(self.held(partition)?, from, see)
    }

    /// The same, of a partition of which is known what it holds.
    fn each_in(
        &self,
        held: OffsetRange,
        from: Offset,
        see: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        self.ask(|client| {
            let read = self.each_by(client, held, from, see);
            // A client with a partition asks the broker for more of it without end, and each later question waits on
            // the same connection for the answer.
            let ended = client.unassign();
            read.and(ended.map_err(ReadError::from))
        })
    }

    fn each_by(
        &self,
        client: &BaseConsumer,
        held: OffsetRange,
        from: Offset,
        mut see: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), ReadError> {
        let partition = held.partition;
        if from < held.from || from > held.to {
            return Err(ReadError::NotInLog {
                partition,
                offset: from.get(),
                from: held.from.get(),
                to: held.to.get(),
            });
        }
        if from == held.to {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, KafkaOffset::Offset(from.get()))?;
        client.assign(&list)?;
        let mut idle_since = Instant::now();
        let mut last_error = "none".to_owned();
        while idle_since.elapsed() < IDLE_TIMEOUT {
            match client.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    idle_since = Instant::now();
                    let registry = self.settings.registry.as_ref();
                    SchemaRegistry::meet_message(registry, message.payload());
                    if message.partition() == partition
                        && (see(&message).is_break() || message.offset() + 1 >= held.to.get())
                    {
                        return Ok(());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) if is_lasting(&error) => return Err(error.into()),
                Some(Err(error)) => {
                    tracing::warn!(%error, partition, "reading goes on after an error");
                    last_error = error.to_string();
                }
            }
        }
        Err(ReadError::TimedOut {
            topic: self.topic.clone(),
            last_error,
        })
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

    use super::*;

    const TOPIC: &str = "records";

    #[tokio::test]
    async fn a_reader_that_has_answered_fetches_no_more() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let settings = KafkaSettings::new(cluster.bootstrap_servers(), "test");
        let producer: BaseProducer = settings.client_config().create().unwrap();
        let record = BaseRecord::<(), _>::to(TOPIC).partition(0).payload("one");
        producer.send(record).unwrap();
        producer.flush(Duration::from_secs(30)).unwrap();

        let reader = RecordReader::new(&settings, TOPIC).unwrap();
        let first = reader.first_from(0, Offset::new(0)).await.unwrap();
        assert_eq!(first.unwrap().payload.unwrap(), b"one");
        let kept = reader.inner.client.lock().unwrap();
        let assigned = kept.as_ref().expect("it gave an answer").assignment();
        assert_eq!(assigned.unwrap().count(), 0);
    }
}
