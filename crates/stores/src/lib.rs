//! Where the log, Redis and PostgreSQL are: the settings that every service has, and the operators' commands one
//! by one.

use seckill_eventlog::{KafkaSettings, Topics, check_brokers, check_topic_prefix};
use seckill_orderbook::check_database_url;
use seckill_stock::check_url;
use seckill_telemetry::settings::{Reader, Secret};

/// Where the event topics are.
#[derive(Debug)]
pub struct Kafka {
    /// `KAFKA_BROKERS`.
    pub brokers: String,
    /// `TOPIC_PREFIX`.
    pub topic_prefix: String,
    /// `EVENT_PARTITIONS`.
    pub partitions: i32,
}

impl Kafka {
    /// Reads and checks all of them. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let brokers: Option<String> = reader.required("KAFKA_BROKERS");
        let brokers = reader.accept("KAFKA_BROKERS", brokers, |b| check_brokers(b));
        let topic_prefix = reader.or("TOPIC_PREFIX", String::new());
        let topic_prefix = reader.accept("TOPIC_PREFIX", topic_prefix, |p| check_topic_prefix(p));
        let partitions = reader.or("EVENT_PARTITIONS", 12);
        if partitions.is_some_and(|count| count < 1) {
            reader.refuse("EVENT_PARTITIONS", "is less than 1");
        }
        Some(Self {
            brokers: brokers?,
            topic_prefix: topic_prefix?,
            partitions: partitions?,
        })
    }
}

/// `REDIS_URL`.
pub fn redis_url(reader: &mut Reader<'_>) -> Option<Secret> {
    let url = reader.secret("REDIS_URL", 1);
    reader.accept("REDIS_URL", url, |url| check_url(url.expose()))
}

/// `DATABASE_URL`.
pub fn database_url(reader: &mut Reader<'_>) -> Option<Secret> {
    let url = reader.secret("DATABASE_URL", 1);
    reader.accept("DATABASE_URL", url, |url| check_database_url(url.expose()))
}

/// Where the stores are.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// `KAFKA_BROKERS`: `host:port[,host:port…]`.
    pub kafka_brokers: String,
    /// `TOPIC_PREFIX`: put before every topic's and group's name and every key in Redis; usually empty.
    pub topic_prefix: String,
    /// `EVENT_PARTITIONS`: how many partitions the event topic has to have.
    pub event_partitions: i32,
    /// `REDIS_URL`; it may hold a password.
    pub redis_url: Secret,
    /// `DATABASE_URL`; it may hold a password.
    pub database_url: Secret,
}

impl StoreSettings {
    /// Reads and checks all of them. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // All are read before the first `?`, so that every mistake is found.
        let (kafka, redis_url) = (Kafka::read(reader), redis_url(reader));
        let database_url = database_url(reader);
        let kafka = kafka?;
        Some(Self {
            kafka_brokers: kafka.brokers,
            topic_prefix: kafka.topic_prefix,
            event_partitions: kafka.partitions,
            redis_url: redis_url?,
            database_url: database_url?,
        })
    }

    /// For a Kafka client of this name.
    #[must_use]
    pub fn kafka(&self, client_id: &str) -> KafkaSettings {
        KafkaSettings::new(&self.kafka_brokers, client_id)
    }

    /// The deployment's topics.
    #[must_use]
    pub fn topics(&self) -> Topics {
        Topics::new(&self.topic_prefix)
    }
}
