//! Reading a part of a topic, and copying it.

use seckill_domain::Offset;
use seckill_eventlog::{OffsetRange, Record, Scan, first_since, offset_ranges, read_all, scan};

use crate::harness::{Log, PARTITIONS, SOON};

async fn scanned(log: &Log, ranges: Vec<OffsetRange>) -> Vec<Record> {
    // A buffer of one: the reader has to wait for its receiver.
    let records = scan(&log.settings, &log.topics.events, ranges, 1).await;
    let mut records: Scan = records.unwrap();
    let mut found = Vec::new();
    let all = async {
        while let Some(record) = records.next().await.unwrap() {
            found.push(record);
        }
    };
    tokio::time::timeout(SOON, all)
        .await
        .expect("an end in time");
    found
}

#[tokio::test]
async fn a_stretch_is_read_from_its_first_to_its_last_record() {
    let log = Log::create().await;
    let (one, two) = (log.write(1, 5).await, log.write(2, 5).await);
    assert_ne!(one, two);
    let held = offset_ranges(&log.settings, &log.topics.events)
        .await
        .unwrap();
    assert_eq!(held.len(), usize::try_from(PARTITIONS).unwrap());
    let lengths: u64 = held.iter().map(OffsetRange::len).sum();
    assert_eq!(lengths, 10);
    assert_eq!(scanned(&log, held).await.len(), 10);

    let middle = OffsetRange {
        partition: one,
        from: Offset::new(1),
        to: Offset::new(4),
    };
    let found = scanned(&log, vec![middle]).await;
    let places: Vec<_> = found
        .iter()
        .map(|r| (r.partition, r.offset.get()))
        .collect();
    assert_eq!(places, [(one, 1), (one, 2), (one, 3)]);
    assert!(scanned(&log, Vec::new()).await.is_empty());
}

#[tokio::test]
async fn a_moment_leads_to_the_first_record_that_is_not_older() {
    let log = Log::create().await;
    let partition = log.write(1, 3).await;
    let records = read_all(&log.settings, &log.topics.events, SOON).await;
    let last_ms = records.unwrap().iter().filter_map(|r| r.timestamp_ms).max();
    let last_ms = last_ms.unwrap();
    for (moment_ms, offset) in [(0, 0), (last_ms + 1, 3)] {
        let found = first_since(&log.settings, &log.topics.events, moment_ms).await;
        let found = found.unwrap();
        assert!(
            found.contains(&(partition, Offset::new(offset))),
            "{found:?}"
        );
        let elsewhere = found.iter().filter(|(p, _)| *p != partition);
        assert!(elsewhere.clone().all(|(_, o)| o.get() == 0), "{found:?}");
    }
}

#[tokio::test]
async fn a_copy_has_the_bytes_of_its_original() {
    let (log, other) = (Log::create().await, Log::create().await);
    log.write(1, 3).await;
    let originals = read_all(&log.settings, &log.topics.events, SOON).await;
    let originals = originals.unwrap();
    for record in &originals {
        let sent = log.producer.send_copy(&other.topics.events, record);
        sent.unwrap().await.unwrap();
    }
    let copies = read_all(&log.settings, &other.topics.events, SOON).await;
    let without_time = |record: &Record| Record {
        timestamp_ms: None,
        ..record.clone()
    };
    let copies: Vec<_> = copies.unwrap().iter().map(without_time).collect();
    let originals: Vec<_> = originals.iter().map(without_time).collect();
    assert_eq!(copies, originals);
}
