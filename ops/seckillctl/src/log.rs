//! Reads and writes the event log and the other topics, for the commands.

use anyhow::Context;
use seckill_domain::{Offset, VoucherId, partition_of};
use seckill_eventlog::{
    EventProducer, EventStream, KafkaSettings, OffsetRange, Record, RecordReader, Scan, TopicError,
    Topics, check_topics, event_offset_ranges, first_since, learn_schema_ids, offset_ranges,
    read_events, scan,
};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::settings::Settings;

/// The number of records that are buffered for a command that is slower than the broker.
const BUFFER_RECORDS: usize = 1000;

/// The most events of a partition that are folded at once.
const BATCH_MAX: usize = 10_000;
/// Several threads, because decoding is half of the work of reading.
const READER_THREADS: usize = 2;

/// The brokers, the topics, and the number of partitions.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) client: KafkaSettings,
    /// The topics' names.
    pub(crate) topics: Topics,
    /// Partitions of the event topic.
    pub(crate) partitions: i32,
}

/// Records as they come from the broker.
pub(crate) struct Records(Scan);

impl Log {
    /// Makes no connection yet.
    pub(crate) fn open(settings: &Settings) -> Result<Self, Failure> {
        let kafka = settings.kafka()?;
        Ok(Self {
            client: kafka.client("seckillctl"),
            topics: kafka.topics(),
            partitions: kafka.partitions,
        })
    }

    /// The partition of a voucher's events.
    pub(crate) fn partition_of(&self, voucher: VoucherId) -> i32 {
        partition_of(voucher.to_string().as_bytes(), self.partitions)
    }

    /// The offsets that each partition of `topic` has now.
    pub(crate) async fn offset_ranges(&self, topic: &str) -> Result<Vec<OffsetRange>, Failure> {
        let found = offset_ranges(&self.client, topic).await;
        Ok(found.with_context(|| self.cannot_read(topic))?)
    }

    /// The offsets that each partition of the event topic has now. Refuses a topic that does not have EVENT_PARTITIONS
    /// partitions, because vouchers would be looked for in the wrong partition.
    pub(crate) async fn event_ranges(&self) -> Result<Vec<OffsetRange>, Failure> {
        let topic = &self.topics.events;
        let found = event_offset_ranges(&self.client, topic, self.partitions).await;
        Ok(found.with_context(|| self.cannot_read(topic))?)
    }

    /// `ranges` without the records that were written before `since` or after `until`.
    pub(crate) async fn between(
        &self,
        topic: &str,
        mut ranges: Vec<OffsetRange>,
        since: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
    ) -> Result<Vec<OffsetRange>, Failure> {
        for (time, is_end) in [(since, false), (until, true)] {
            let Some(time) = time else { continue };
            // Kafka's timestamps are milliseconds. Records of the millisecond that contains `until` are included.
            let millis = time.unix_timestamp_nanos().div_euclid(1_000_000) + i128::from(is_end);
            let millis = i64::try_from(millis).unwrap_or(i64::MAX).max(0);
            let found = first_since(&self.client, topic, millis).await;
            let found = found.with_context(|| self.cannot_read(topic))?;
            for (partition, first) in found {
                for range in ranges.iter_mut().filter(|s| s.partition == partition) {
                    if is_end {
                        range.to = range.to.min(first);
                    } else {
                        range.from = range.from.max(first);
                    }
                }
            }
        }
        Ok(ranges)
    }

    /// Reads `ranges`: at most one for each partition, within the offsets that the topic has.
    pub(crate) async fn scan(
        &self,
        topic: &str,
        ranges: Vec<OffsetRange>,
    ) -> Result<Records, Failure> {
        let records = scan(&self.client, topic, ranges, BUFFER_RECORDS).await;
        Ok(Records(records.with_context(|| self.cannot_read(topic))?))
    }

    /// The events of each partition from these positions on, without an end.
    pub(crate) async fn events(
        &self,
        starts: Vec<(i32, Offset)>,
    ) -> Result<Vec<EventStream>, Failure> {
        let topic = &self.topics.events;
        let topic = (topic.as_str(), self.partitions);
        let streams = read_events(&self.client, topic, starts, BATCH_MAX, READER_THREADS).await;
        Ok(streams.with_context(|| self.cannot_read(topic.0))?)
    }

    /// Refuses a log that may have lost records because of its topics' settings. It cannot be used for a comparison.
    pub(crate) async fn check_keeps_records(&self) -> Result<(), Failure> {
        match check_topics(&self.client, &self.topics, self.partitions).await {
            Err(error @ TopicError::Settings { .. }) => Err(Failure::Refused(format!(
                "{error}\nwhat is gone cannot be compared; nothing was done"
            ))),
            // Added partitions stay empty, so they do no harm here.
            Ok(()) | Err(TopicError::Partitions { .. }) => Ok(()),
            Err(error) => Err(anyhow::Error::new(error).into()),
        }
    }

    /// A reader of single records of the event topic.
    pub(crate) fn record_reader(&self) -> Result<RecordReader, Failure> {
        let reader = RecordReader::new(&self.client, &self.topics.events);
        Ok(reader.context("cannot make a Kafka reader")?)
    }

    /// A producer for events that a command makes.
    pub(crate) async fn event_producer(&self) -> Result<EventProducer, Failure> {
        let learned = learn_schema_ids(&self.client, &self.topics).await;
        learned.context("SCHEMA_REGISTRY_URL")?;
        self.producer()
    }

    /// A producer for copies of records.
    pub(crate) fn producer(&self) -> Result<EventProducer, Failure> {
        let producer = EventProducer::new(&self.client, &self.topics, self.partitions);
        Ok(producer.context("cannot make a Kafka producer")?)
    }

    pub(crate) fn cannot_read(&self, topic: &str) -> String {
        format!(
            "cannot read topic {topic} (KAFKA_BROKERS={})",
            self.client.brokers
        )
    }
}

impl Records {
    /// The next record; none after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, Failure> {
        Ok(self.0.next().await.context("reading broke off")?)
    }
}
