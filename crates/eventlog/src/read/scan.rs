//! Reading a part of a topic once, outside any group, without keeping it in memory.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::{Offset, partition_of};
use tokio::sync::mpsc;

use crate::kafka::settings::KafkaSettings;
use crate::kafka::topics::TopicError;
use crate::read::reader::{Next, OffsetRange, Reach, ReadError, Reader, blocking};
use crate::wire::record::Record;

const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// The offsets of each partition of a topic at this moment, from its oldest record to its end.
///
/// # Errors
/// [`ReadError`] when the topic is missing or the cluster does not answer.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn offset_ranges(
    settings: &KafkaSettings,
    topic: &str,
) -> Result<Vec<OffsetRange>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    blocking(move || Ok(Reader::open(&settings, &topic, Reach::Whole)?.ranges)).await
}

/// [`offset_ranges`] of the first `partitions` partitions of the event topic, `EVENT_PARTITIONS`. More may
/// have been added to it: they are empty, since no event is ever written there.
///
/// # Errors
/// As [`offset_ranges`]; [`TopicError::Partitions`] when there are fewer, when the others hold records, or
/// when a record stands where that number of partitions would not have put it.
///
/// # Panics
/// Outside a tokio runtime; when `partitions` is not positive.
pub async fn event_offset_ranges(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
) -> Result<Vec<OffsetRange>, ReadError> {
    let mut held = offset_ranges(settings, topic).await?;
    let expected = usize::try_from(partitions).unwrap_or(0);
    if held.len() == expected {
        return Ok(held);
    }
    let refused = TopicError::Partitions {
        topic: topic.to_owned(),
        actual: i32::try_from(held.len()).unwrap_or(i32::MAX),
        expected: partitions,
    };
    if held.len() < expected || held.drain(expected..).any(|added| !added.is_empty()) {
        return Err(refused.into());
    }
    let first = |held: &OffsetRange| OffsetRange {
        to: held.from.next().min(held.to),
        ..*held
    };
    let mut records = scan(settings, topic, held.iter().map(first).collect(), 1).await?;
    while let Some(record) = records.next().await? {
        let key = record.key.as_deref().unwrap_or_default();
        if partition_of(key, partitions) != record.partition {
            return Err(refused.into());
        }
    }
    Ok(held)
}

/// Each partition's first record whose timestamp is `timestamp_ms` (milliseconds since the Unix
/// epoch) or later; the partition's end where there is none.
///
/// # Errors
/// As [`offset_ranges`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn first_since(
    settings: &KafkaSettings,
    topic: &str,
    timestamp_ms: i64,
) -> Result<Vec<(i32, Offset)>, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    blocking(move || {
        let reader = Reader::open(&settings, &topic, Reach::Whole)?;
        let mut asked = TopicPartitionList::new();
        for range in &reader.ranges {
            let timestamp = KafkaOffset::Offset(timestamp_ms);
            asked.add_partition_offset(&topic, range.partition, timestamp)?;
        }
        let found = reader.consumer.offsets_for_times(asked, LOOK_UP_TIMEOUT)?;
        let first = |range: &OffsetRange| {
            let element = found.find_partition(&topic, range.partition);
            match element.map(|e| e.offset()) {
                Some(KafkaOffset::Offset(offset)) => (range.partition, Offset::new(offset)),
                _ => (range.partition, range.to),
            }
        };
        Ok(reader.ranges.iter().map(first).collect())
    })
    .await
}

/// Records as they are read.
#[derive(Debug)]
pub struct Scan(mpsc::Receiver<Result<Option<Record>, ReadError>>);

impl Scan {
    /// The next record; none after the last.
    ///
    /// # Errors
    /// [`ReadError`]: the reading is over, and not all was read.
    pub async fn next(&mut self) -> Result<Option<Record>, ReadError> {
        let broken_off = || ReadError::Thread("it ended before the last record".to_owned());
        self.0.recv().await.unwrap_or_else(|| Err(broken_off()))
    }
}

/// Reads `ranges`, which have to lie within the topic's [`offset_ranges`], at most one a partition.
/// Records of one partition are in their order. A slow receiver holds the reading up, at
/// `buffer_records` records; one that is dropped ends it.
///
/// # Errors
/// As [`offset_ranges`]; what goes wrong later comes from [`Scan::next`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn scan(
    settings: &KafkaSettings,
    topic: &str,
    ranges: Vec<OffsetRange>,
    buffer_records: usize,
) -> Result<Scan, ReadError> {
    scan_while(settings, topic, ranges, buffer_records, Next::Record).await
}

/// `then` is what follows each record.
async fn scan_while(
    settings: &KafkaSettings,
    topic: &str,
    ranges: Vec<OffsetRange>,
    buffer_records: usize,
    then: Next,
) -> Result<Scan, ReadError> {
    let (settings, topic) = (settings.clone(), topic.to_owned());
    let reader = blocking(move || Reader::open(&settings, &topic, Reach::Whole)).await?;
    let (sender, records) = mpsc::channel(buffer_records);
    std::thread::Builder::new()
        .name("kafka-scan".to_owned())
        .spawn(move || {
            let sink = |record| match sender.blocking_send(Ok(Some(record))) {
                Ok(()) => then,
                Err(_) => Next::End,
            };
            let end = reader.read(&ranges, IDLE_TIMEOUT, sink).map(|()| None);
            // If the receiver is gone, nobody needs the records.
            let _ = sender.blocking_send(end);
        })
        .map_err(|e| ReadError::Thread(e.to_string()))?;
    Ok(Scan(records))
}

/// What a view has not read of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Offsets from the first record that it has not read to the end of the log: at least one.
    pub events: u64,
    /// When that record was written, in milliseconds since the Unix epoch.
    pub oldest_ms: Option<i64>,
}

impl Backlog {
    /// By the first record of what is unread; none where that comes only behind it.
    pub(crate) fn of(unread: &OffsetRange, first: &Record) -> Option<Self> {
        let left = unread.to.get() - first.offset.get();
        let events = u64::try_from(left).ok().filter(|events| *events > 0)?;
        let oldest_ms = first.timestamp_ms;
        Some(Self { events, oldest_ms })
    }
}

/// How far a view is behind, by partition: `unread` are from its positions to the ends. A partition with
/// no record there is not in the answer, also where the log's last offsets belong to no record: a
/// transaction's end takes one.
///
/// # Errors
/// As [`offset_ranges`].
///
/// # Panics
/// Outside a tokio runtime.
pub async fn backlog(
    settings: &KafkaSettings,
    topic: &str,
    unread: &[OffsetRange],
) -> Result<HashMap<i32, Backlog>, ReadError> {
    let waiting = unread.iter().filter(|range| !range.is_empty());
    let waiting: Vec<_> = waiting.copied().collect();
    let mut found = HashMap::new();
    if waiting.is_empty() {
        return Ok(found);
    }
    let mut first_ones = scan_while(settings, topic, waiting, 1, Next::OtherPartition).await?;
    while let Some(record) = first_ones.next().await? {
        let range = unread.iter().find(|s| s.partition == record.partition);
        if let Some(backlog) = range.and_then(|range| Backlog::of(range, &record)) {
            found.insert(record.partition, backlog);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_that_ends_without_a_word_is_no_end_of_the_records() {
        let (sender, records) = mpsc::channel(1);
        sender.send(Ok(None)).await.unwrap();
        drop(sender);
        let mut scan = Scan(records);
        assert!(matches!(scan.next().await, Ok(None)));
        assert!(matches!(scan.next().await, Err(ReadError::Thread(_))));
    }
}
