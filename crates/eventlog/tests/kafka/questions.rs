//! Questions about the log while leaders come and go, and while it grows. A broker of its own would elect a leader
//! when it likes: there the tests decide when, at the client's own mock of a cluster.

use std::cell::Cell;
use std::pin::pin;

use rdkafka::mocking::MockCluster;
use seckill_domain::{Actor, Event, EventBody, Offset, Reason, RecordSkipped};
use seckill_eventlog::{KafkaSettings, OffsetRange, RecordReader};

use crate::harness::{Log, PARTITIONS, SOON, reservation};

const TOPIC: &str = "questions";
const BROKER: i32 = 1;

#[tokio::test]
async fn a_partition_that_has_a_leader_again_is_read_at_once() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 1, 1).unwrap();
    let settings = KafkaSettings::new(cluster.bootstrap_servers(), "test");
    let reader = RecordReader::new(&settings, TOPIC).unwrap();
    let nothing_yet = OffsetRange {
        partition: 0,
        from: Offset::new(0),
        to: Offset::new(0),
    };
    assert_eq!(reader.held(1).await.unwrap(), [nothing_yet]);

    cluster.partition_leader(TOPIC, 0, None).unwrap();
    while reader.held(1).await.is_ok() {}

    cluster.partition_leader(TOPIC, 0, Some(BROKER)).unwrap();
    assert_eq!(reader.held(1).await.unwrap(), [nothing_yet]);
}

/// So many that a client fetches them in several parts.
const BACKLOG: u64 = 20_000;

/// A log with many records and, behind them, a decision to skip the first.
async fn log_with_a_decision_at_its_end() -> (Log, i32, RecordSkipped) {
    let log = Log::create().await;
    let partition = log.write(42, BACKLOG).await;
    let skip = RecordSkipped {
        partition,
        offset: Offset::new(0),
        reason: Reason::new("for a test").unwrap(),
        actor: Actor::new("operator").unwrap(),
    };
    let decision = Event {
        body: EventBody::RecordSkipped(skip.clone()),
        ..reservation(42, BACKLOG)
    };
    let sent = log.producer.send_event(&decision, None).unwrap();
    assert_eq!(sent.await.unwrap().partition, partition);
    (log, partition, skip)
}

#[tokio::test]
async fn decisions_to_skip_are_found_faster_than_the_log_grows_meanwhile() {
    let (log, partition, skip) = log_with_a_decision_at_its_end().await;
    let reader = RecordReader::new(&log.settings, &log.topics.events).unwrap();
    let written = Cell::new(0);
    let grow = async {
        loop {
            log.write(42, 500).await;
            written.set(written.get() + 500);
        }
    };
    let found = tokio::time::timeout(SOON, async {
        tokio::select! {
            found = reader.skips(partition, Offset::new(0)) => found.unwrap(),
            () = grow => unreachable!("it grows without end"),
        }
    });
    let found = found.await.expect("the reading ends");
    let skips: Vec<_> = found.into_iter().map(|(_, skip)| skip).collect();
    assert_eq!(skips, [skip]);
    let written = written.get();
    assert!(written < BACKLOG, "{written} were written meanwhile");
}

#[tokio::test]
async fn no_question_waits_until_a_large_part_of_the_log_is_read() {
    let (log, partition, skip) = log_with_a_decision_at_its_end().await;
    let reader = RecordReader::new(&log.settings, &log.topics.events).unwrap();
    let mut reading = pin!(reader.skips(partition, Offset::new(0)));
    let mut answers = 0;
    let found = loop {
        tokio::select! {
            biased;
            found = &mut reading => break found.unwrap(),
            held = reader.held(PARTITIONS) => {
                held.unwrap();
                answers += 1;
            }
        }
    };
    assert_eq!(found[0].1, skip);
    assert!(answers > 2, "{answers} answers meanwhile");
}
