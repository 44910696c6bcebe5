//! Topics of a test's own, and events for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use seckill_domain::{
    Epoch, Event, EventBody, EventId, Money, Offset, OrderId, SeckillReserved, Timestamp, UserId,
    VoucherId,
};
use seckill_eventlog::{
    Assignment, ConsumerHandle, ConsumerOptions, EventProducer, KafkaSettings, OffsetRange,
    Positions, PositionsError, Record, RecordReader, Topics, create_topics, start_consumer,
};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A test's own topics on the shared broker.
pub(crate) struct Log {
    pub(crate) settings: KafkaSettings,
    pub(crate) topics: Topics,
    pub(crate) producer: EventProducer,
}

impl Log {
    pub(crate) async fn create() -> Self {
        let brokers = tokio::task::spawn_blocking(seckill_testkit::shared_kafka);
        let brokers = brokers.await.unwrap().unwrap();
        let settings = KafkaSettings {
            // Measured in other tests; here a busy machine must not fail one.
            delivery_timeout: SOON,
            ..KafkaSettings::new(brokers, "seckill-test")
        };
        let topics = Topics::new(&seckill_testkit::unique_prefix());
        create_topics(&settings, &topics, PARTITIONS, 1)
            .await
            .unwrap();
        let producer = EventProducer::new(&settings, &topics, PARTITIONS).unwrap();
        Self {
            settings,
            topics,
            producer,
        }
    }

    /// What the event topic has of a partition, by a client that is kept.
    pub(crate) async fn held(&self, partition: i32) -> OffsetRange {
        let reader = RecordReader::new(&self.settings, &self.topics.events).unwrap();
        let held = reader.held(PARTITIONS).await.unwrap();
        let mut held = held.into_iter();
        held.find(|range| range.partition == partition).unwrap()
    }

    /// Writes `count` reservations for a voucher, in order. Returns its partition.
    pub(crate) async fn write(&self, voucher: i64, count: u64) -> i32 {
        let sent: Vec<_> = (0..count)
            .map(|n| self.producer.send_event(&reservation(voucher, n), None))
            .collect();
        let mut partition = 0;
        for delivery in sent {
            partition = delivery.unwrap().await.unwrap().partition;
        }
        partition
    }

    pub(crate) fn consume(
        &self,
        buffer_records: usize,
        positions: Arc<dyn Positions>,
    ) -> (UnboundedReceiver<Assignment>, ConsumerHandle) {
        let options = ConsumerOptions {
            settings: self.settings.clone(),
            topic: self.topics.events.clone(),
            group: format!("{}.group", self.topics.events),
            buffer_records,
        };
        start_consumer(&options, positions).unwrap()
    }
}

pub(crate) fn reservation(voucher: i64, counter: u64) -> Event {
    let voucher_id = VoucherId::new(voucher).unwrap();
    let reserved = SeckillReserved {
        order_id: OrderId::from_parts(voucher_id, 1, counter),
        user_id: UserId::new(1).unwrap(),
        quantity: 1,
        price: Money::new(100, "EUR".parse().unwrap()).unwrap(),
        pay_by: Timestamp::from_micros(1_781_784_960_000_000),
        epoch: Epoch::FIRST,
        key_hash: None,
    };
    Event {
        event_id: EventId::from_uuid(Uuid::from_u128(u128::from(counter))),
        voucher_id,
        occurred_at: Timestamp::from_micros(1_781_784_000_000_000),
        body: EventBody::SeckillReserved(reserved),
    }
}

/// A view that keeps nothing but its positions.
#[derive(Default)]
pub(crate) struct View(Mutex<HashMap<i32, Offset>>);

impl View {
    pub(crate) fn at(positions: &[(i32, i64)]) -> Arc<Self> {
        let positions = positions.iter().map(|(p, n)| (*p, Offset::new(*n)));
        Arc::new(Self(Mutex::new(positions.collect())))
    }

    /// Moves on by one record. A repetition changes nothing; a hole fails the test.
    pub(crate) fn apply(&self, record: &Record) {
        let mut positions = self.0.lock().unwrap();
        let next = positions.entry(record.partition).or_insert(Offset::new(0));
        assert!(record.offset <= *next, "hole before {record:?}");
        if record.offset == *next {
            *next = next.next();
        }
    }

    /// The number of records applied, over all partitions.
    pub(crate) fn total(&self) -> i64 {
        let positions = self.0.lock().unwrap();
        positions.values().map(|next| next.get()).sum()
    }
}

impl Positions for View {
    fn next_offsets(&self, partitions: &[i32]) -> Result<Vec<(i32, Offset)>, PositionsError> {
        let positions = self.0.lock().map_err(|e| e.to_string())?;
        let known = |p: &i32| positions.get(p).map(|next| (*p, *next));
        Ok(partitions.iter().filter_map(known).collect())
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for the assignment of one partition; others are dropped.
pub(crate) async fn assigned(
    assignments: &mut UnboundedReceiver<Assignment>,
    partition: i32,
) -> Assignment {
    let found = async {
        loop {
            let assignment = assignments.recv().await.expect("the consumer goes on");
            if assignment.partition == partition {
                return assignment;
            }
        }
    };
    tokio::time::timeout(SOON, found)
        .await
        .expect("an assignment in time")
}

/// The offsets of the next `count` records.
pub(crate) async fn read(assignment: &mut Assignment, count: usize) -> Vec<i64> {
    let mut offsets = Vec::new();
    while offsets.len() < count {
        let record = tokio::time::timeout(SOON, assignment.records.recv());
        let record = record
            .await
            .expect("a record in time")
            .expect("not revoked");
        offsets.push(record.offset.get());
    }
    offsets
}
