use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::Offset;
use seckill_eventlog::{OffsetRange, Positions, PositionsError};

use crate::harness::{Log, SOON, View, assigned, eventually, read, reservation};

#[tokio::test]
async fn reading_begins_at_the_views_position() {
    let log = Log::create().await;
    let partition = log.write(42, 10).await;
    let (mut assignments, handle) = log.consume(100, View::at(&[(partition, 4)]));
    let mut assignment = assigned(&mut assignments, partition).await;
    assert_eq!(assignment.start, Offset::new(4));
    assert_eq!(read(&mut assignment, 6).await, [4, 5, 6, 7, 8, 9]);
    let expected = OffsetRange {
        partition,
        from: Offset::new(0),
        to: Offset::new(10),
    };
    assert_eq!(log.held(partition).await, expected);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_partition_without_a_position_begins_at_the_beginning() {
    let log = Log::create().await;
    let partition = log.write(42, 2).await;
    let (mut assignments, handle) = log.consume(100, View::at(&[]));
    let mut assignment = assigned(&mut assignments, partition).await;
    assert_eq!(assignment.start, Offset::new(0));
    assert_eq!(read(&mut assignment, 2).await, [0, 1]);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_slow_reader_gets_everything_in_order() {
    const COUNT: usize = 500;
    let log = Log::create().await;
    let partition = log.write(42, COUNT.try_into().unwrap()).await;
    let (mut assignments, handle) = log.consume(8, View::at(&[]));
    let mut assignment = assigned(&mut assignments, partition).await;
    let mut offsets = Vec::new();
    while offsets.len() < COUNT {
        // Until the channel is full: then the partition is paused, and has to be resumed.
        let rest = 8.min(COUNT - offsets.len());
        eventually(|| assignment.records.len() >= rest).await;
        offsets.extend(read(&mut assignment, rest).await);
    }
    let expected: Vec<_> = (0..500).collect();
    assert_eq!(offsets, expected);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_full_partition_does_not_hold_up_another() {
    let log = Log::create().await;
    let stuck = log.write(1, 100).await;
    let vouchers = 2..100;
    let other = vouchers.into_iter().find(|v| {
        seckill_domain::partition_of(v.to_string().as_bytes(), crate::harness::PARTITIONS) != stuck
    });
    let (mut assignments, handle) = log.consume(4, View::at(&[]));
    let mut held = Vec::new();
    while held.len() < 4 {
        let next = tokio::time::timeout(SOON, assignments.recv());
        held.push(next.await.unwrap().unwrap());
    }
    let partition = log.write(other.unwrap(), 50).await;
    let other = held.iter_mut().find(|a| a.partition == partition).unwrap();
    assert_eq!(read(other, 50).await.len(), 50);
    let stuck = held.iter_mut().find(|a| a.partition == stuck).unwrap();
    assert_eq!(read(stuck, 100).await, (0..100).collect::<Vec<_>>());
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_restart_reads_again_from_the_given_offset() {
    let log = Log::create().await;
    let partition = log.write(42, 100).await;
    let (mut assignments, handle) = log.consume(8, View::at(&[]));
    let mut first = assigned(&mut assignments, partition).await;
    assert_eq!(read(&mut first, 2).await, [0, 1]);
    // Back and forth; the partition is paused at each, since the buffer is smaller than the log.
    for start in [50, 1, 0, 97] {
        handle.restart(partition, Offset::new(start));
        let mut again = assigned(&mut assignments, partition).await;
        assert_eq!(again.start, Offset::new(start));
        let expected: Vec<_> = (start..100).collect();
        assert_eq!(read(&mut again, expected.len()).await, expected);
    }
    // The old channel still has what was in it, and ends.
    while let Some(record) = first.records.recv().await {
        assert!(record.offset.get() < 100);
    }
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn shutting_down_ends_every_channel() {
    let log = Log::create().await;
    let partition = log.write(42, 3).await;
    let (mut assignments, handle) = log.consume(100, View::at(&[]));
    let mut assignment = assigned(&mut assignments, partition).await;
    let before = handle.last_poll();
    read(&mut assignment, 3).await;
    handle.shutdown().await.unwrap();
    assert!(assignment.records.recv().await.is_none());
    while assignments.recv().await.is_some() {}
    assert!(handle.last_poll() >= before);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_position_beyond_the_log_brings_nothing_and_leaves_the_other_partitions_alone() {
    let log = Log::create().await;
    let (cut, whole) = (log.write(42, 3).await, log.write(43, 3).await);
    assert_ne!(cut, whole, "two partitions");
    let (mut assignments, handle) = log.consume(100, View::at(&[(cut, 1_000)]));
    let (mut of_cut, mut of_whole) = (None, None);
    while of_cut.is_none() || of_whole.is_none() {
        let next = tokio::time::timeout(SOON, assignments.recv()).await;
        let assignment = next.expect("it is assigned").expect("it runs");
        match assignment.partition {
            number if number == cut => of_cut = Some(assignment),
            number if number == whole => of_whole = Some(assignment),
            _ => {}
        }
    }
    read(&mut of_whole.unwrap(), 3).await;
    assert!(of_cut.unwrap().records.try_recv().is_err());
    handle.shutdown().await.unwrap();
}

/// Fails a number of times before it answers.
struct Failing {
    left: AtomicUsize,
    then: Arc<View>,
}

impl Positions for Failing {
    fn next_offsets(&self, partitions: &[i32]) -> Result<Vec<(i32, Offset)>, PositionsError> {
        let minus_one = |left: usize| left.checked_sub(1);
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, minus_one)
        {
            Ok(_) => Err("the database is away".into()),
            Err(_) => self.then.next_offsets(partitions),
        }
    }
}

#[tokio::test]
async fn unknown_positions_are_asked_for_again() {
    let log = Log::create().await;
    let partition = log.write(42, 3).await;
    let positions = Failing {
        left: AtomicUsize::new(3),
        then: View::at(&[(partition, 2)]),
    };
    let (mut assignments, handle) = log.consume(100, Arc::new(positions));
    let mut assignment = assigned(&mut assignments, partition).await;
    assert_eq!(read(&mut assignment, 1).await, [2]);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_consumer_that_waits_for_positions_can_be_shut_down() {
    let log = Log::create().await;
    let positions = Arc::new(Failing {
        left: AtomicUsize::new(usize::MAX),
        then: View::at(&[]),
    });
    let (mut assignments, handle) = log.consume(100, Arc::clone(&positions) as Arc<_>);
    eventually(|| positions.left.load(Ordering::SeqCst) < usize::MAX).await;
    let stopped = tokio::time::timeout(SOON, handle.shutdown());
    stopped.await.expect("it stops in time").unwrap();
    assert!(assignments.recv().await.is_none(), "nothing was assigned");
}

#[tokio::test]
async fn commits_are_there_for_lag_monitors() {
    let log = Log::create().await;
    let partition = log.write(42, 3).await;
    let (mut assignments, handle) = log.consume(100, View::at(&[]));
    let mut assignment = assigned(&mut assignments, partition).await;
    read(&mut assignment, 3).await;
    handle.commit(partition, Offset::new(2));

    let monitor: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", &log.settings.brokers)
        .set("group.id", format!("{}.group", log.topics.events))
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(&log.topics.events, partition);
    let deadline = Instant::now() + SOON;
    let committed = loop {
        let found = monitor.committed_offsets(list.clone(), SOON).unwrap();
        let offset = found.elements()[0].offset();
        if offset != KafkaOffset::Invalid || Instant::now() >= deadline {
            break offset;
        }
    };
    assert_eq!(committed, KafkaOffset::Offset(2));

    // What was committed is not where reading begins: the view says that.
    handle.shutdown().await.unwrap();
    let (mut assignments, handle) = log.consume(100, View::at(&[(partition, 1)]));
    let mut assignment = assigned(&mut assignments, partition).await;
    assert_eq!(read(&mut assignment, 2).await, [1, 2]);
    handle.shutdown().await.unwrap();
}

#[tokio::test]
async fn records_written_meanwhile_come_too() {
    let log = Log::create().await;
    let (mut assignments, handle) = log.consume(100, View::at(&[]));
    let partition = log.write(42, 1).await;
    let mut assignment = assigned(&mut assignments, partition).await;
    read(&mut assignment, 1).await;
    let event = reservation(42, 99);
    log.producer
        .send_event(&event, None)
        .unwrap()
        .await
        .unwrap();
    let record = tokio::time::timeout(SOON, assignment.records.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(record.event(crate::harness::PARTITIONS), Ok(event));
    handle.shutdown().await.unwrap();
}
