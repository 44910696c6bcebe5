//! The stores' clients.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use seckill_ephemeral::Ephemeral;
use seckill_eventlog::{EventProducer, KafkaSettings, Topics};
use seckill_orderbook::{Orderbook, OrderbookOptions};
use seckill_stock::{LogIdentity, Stock, StockOptions};

use crate::config::Config;

/// The name of this service in Kafka, PostgreSQL and `ce_source`.
const SERVICE: &str = "seckill-ingress";

const DATABASE_CONNECTIONS: u32 = 16;
/// For sign-ins, sign-outs and risk rules.
const DOOR_CONNECTIONS: u32 = 4;
/// Made when the first buyer comes with a token of an identity provider.
const BUYERS_CONNECTIONS: u32 = 4;
const DATABASE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
const DATABASE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const DATABASE_IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The stores' clients. None of them has connected yet.
pub(crate) struct Clients {
    pub(crate) orderbook: Orderbook,
    /// For sessions and rules that refuse requests. It has connections of its own, which reads cannot use up.
    pub(crate) door: Orderbook,
    /// Says which user an identity provider's buyer is. Orders wait for it, so it must not slow down the door.
    pub(crate) buyers: Orderbook,
    /// Each use has its own connection, so that none waits for another.
    pub(crate) stock_orders: Stock,
    pub(crate) stock_reads: Stock,
    pub(crate) stock_pages: Stock,
    /// The log whose sales belong to this deployment, once Kafka has told its cluster id.
    pub(crate) log: LogIdentity,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) producer: Arc<EventProducer>,
    pub(crate) kafka: KafkaSettings,
    pub(crate) topics: Topics,
}

impl Clients {
    pub(crate) fn new(config: &Config) -> anyhow::Result<Self> {
        let orderbook = |max_connections| {
            Orderbook::connect(&OrderbookOptions {
                database_url: config.stores.database_url.expose().to_owned(),
                application_name: SERVICE.to_owned(),
                max_connections,
                holds_connections: false,
                acquire_timeout: DATABASE_ACQUIRE_TIMEOUT,
                statement_timeout: DATABASE_STATEMENT_TIMEOUT,
                idle_transaction_timeout: DATABASE_IDLE_TRANSACTION_TIMEOUT,
            })
            .context("DATABASE_URL cannot be used")
        };
        let (redis, prefix) = (&config.stores.redis, &config.stores.kafka.topic_prefix);
        let log = LogIdentity::default();
        let options = StockOptions::new(redis).of_deployment(prefix, log.clone());
        let stock = || Stock::new(options.clone());
        let mut kafka = config.stores.kafka(SERVICE);
        // A record must not be given up before the promise deadline: until then it could still be promised.
        kafka.delivery_timeout = kafka.delivery_timeout.max(config.promise_deadline);
        let topics = config.stores.topics();
        let producer = EventProducer::new(&kafka, &topics, config.stores.kafka.partitions)
            .context("KAFKA_BROKERS")?;
        Ok(Self {
            orderbook: orderbook(DATABASE_CONNECTIONS)?,
            door: orderbook(DOOR_CONNECTIONS)?,
            buyers: orderbook(BUYERS_CONNECTIONS)?,
            stock_orders: stock().context("REDIS_URL cannot be used")?,
            stock_reads: stock()?,
            stock_pages: stock()?,
            log,
            ephemeral: Ephemeral::new(redis, prefix).context("REDIS_URL cannot be used")?,
            producer: Arc::new(producer),
            kafka,
            topics,
        })
    }
}
