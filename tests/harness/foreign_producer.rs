//! A producer that writes into the event topic without the services: garbage, wrong keys, old versions.

use std::time::Duration;

use anyhow::Result;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use seckill_domain::{
    Event, EventBody, EventId, Reason, StockAdjusted, Timestamp, VoucherId, partition_of,
};
use seckill_eventlog::{Topics, encode_event};
use uuid::Uuid;

use crate::world::World;

const SOON: Duration = Duration::from_secs(10);

/// A producer of the event topic that checks nothing.
pub struct ForeignProducer {
    producer: FutureProducer,
    topic: String,
    partitions: i32,
}

impl ForeignProducer {
    /// A producer for the event topic of `world`.
    ///
    /// # Errors
    /// When the client cannot be made.
    pub fn of(world: &World) -> Result<Self> {
        let setting = |name| world.stack.setting(name);
        let producer = ClientConfig::new()
            .set("bootstrap.servers", setting("KAFKA_BROKERS"))
            // A partition that had no leader at the first question is asked for again: by default after five minutes.
            .set("topic.metadata.refresh.interval.ms", "1000")
            .create()?;
        Ok(Self {
            producer,
            topic: Topics::new(setting("TOPIC_PREFIX")).events,
            partitions: setting("EVENT_PARTITIONS").parse()?,
        })
    }

    /// How many partitions the topic has.
    #[must_use]
    pub const fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The partition of a sale's records.
    #[must_use]
    pub fn home_of(&self, voucher: VoucherId) -> i32 {
        partition_of(voucher.to_string().as_bytes(), self.partitions)
    }

    /// Writes a record into a partition. Returns its offset.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn write(&self, partition: i32, key: &str, payload: &[u8]) -> Result<i64> {
        let record = FutureRecord::to(&self.topic).key(key).payload(payload);
        let sent = self.producer.send(record.partition(partition), SOON).await;
        Ok(sent.map_err(|(error, _)| error)?.offset)
    }

    /// Writes a record into the partition of a sale, with the sale's key.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn write_as(&self, voucher: VoucherId, payload: &[u8]) -> Result<i64> {
        let key = voucher.to_string();
        self.write(self.home_of(voucher), &key, payload).await
    }

    /// Writes a restock of one unit into the partition of a sale, with a key of no sale. It becomes a dead letter. If
    /// it were folded, the stock would show it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn misfile_restock(&self, voucher: VoucherId) -> Result<i64> {
        let restock = encode_event(&Event {
            event_id: EventId::from_uuid(Uuid::now_v7()),
            voucher_id: voucher,
            occurred_at: Timestamp::from_micros(1),
            body: EventBody::StockAdjusted(StockAdjusted {
                delta: 1,
                reason: Reason::new("found")?,
                epoch: None,
            }),
        });
        self.write(self.home_of(voucher), "not a sale", &restock)
            .await
    }
}
