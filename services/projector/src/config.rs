//! The projector's settings.

use std::net::SocketAddr;
use std::time::Duration;

use seckill_eventlog::{check_brokers, check_topic_prefix};
use seckill_orderbook::check_database_url;
use seckill_stock::check_url;
use seckill_telemetry::logs::{LogFormat, check_filter};
use seckill_telemetry::settings::{Reader, Secret, SettingsError, Source};

/// Everything the projector is told from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// `KAFKA_BROKERS`.
    pub kafka_brokers: String,
    /// `REDIS_URL`.
    pub redis_url: Secret,
    /// `DATABASE_URL`.
    pub database_url: Secret,
    /// `TOPIC_PREFIX`: put before every topic and group name; empty by default.
    pub topic_prefix: String,
    /// `EVENT_PARTITIONS`: partitions of the event topic, a part of the contract.
    pub event_partitions: i32,
    /// `PROMISE_DEADLINE_MS`: how long a grant may still become a promise; the drain of a reload.
    pub promise_deadline: Duration,
    /// `FOLD_BATCH_MAX`: the most records in one transaction.
    pub fold_batch_max: usize,
    /// `PROJECTOR_ADMIN_LISTEN`.
    pub admin_listen: SocketAddr,
    /// `RUST_LOG`.
    pub log_filter: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads and checks the settings.
    ///
    /// # Errors
    /// Every mistake at once.
    pub fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let kafka_brokers: Option<String> = reader.required("KAFKA_BROKERS");
        let kafka_brokers = reader.accept("KAFKA_BROKERS", kafka_brokers, |b| check_brokers(b));
        let redis_url = reader.secret("REDIS_URL", 1);
        let redis_url = reader.accept("REDIS_URL", redis_url, |url| check_url(url.expose()));
        let database_url = reader.secret("DATABASE_URL", 1);
        let database_url = reader.accept("DATABASE_URL", database_url, |url| {
            check_database_url(url.expose())
        });
        let topic_prefix = reader.or("TOPIC_PREFIX", String::new());
        let topic_prefix = reader.accept("TOPIC_PREFIX", topic_prefix, |p| check_topic_prefix(p));
        let event_partitions = reader.or("EVENT_PARTITIONS", 12);
        let promise_deadline_ms = reader.or("PROMISE_DEADLINE_MS", 3_000);
        let fold_batch_max = reader.or("FOLD_BATCH_MAX", 1_000);
        let admin_listen = reader.or(
            "PROJECTOR_ADMIN_LISTEN",
            SocketAddr::from(([127, 0, 0, 1], 8082)),
        );
        let log_filter = reader.or("RUST_LOG", "info".to_owned());
        let log_filter = reader.accept("RUST_LOG", log_filter, |filter| check_filter(filter));
        let log_format = reader.or("LOG_FORMAT", LogFormat::Json);
        if event_partitions.is_some_and(|n| n < 1) {
            reader.refuse("EVENT_PARTITIONS", "is below 1");
        }
        if fold_batch_max == Some(0) {
            reader.refuse("FOLD_BATCH_MAX", "is 0");
        }
        Some(Self {
            kafka_brokers: kafka_brokers?,
            redis_url: redis_url?,
            database_url: database_url?,
            topic_prefix: topic_prefix?,
            event_partitions: event_partitions?,
            promise_deadline: Duration::from_millis(promise_deadline_ms?),
            fold_batch_max: fold_batch_max?,
            admin_listen: admin_listen?,
            log_filter: log_filter?,
            log_format: log_format?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_setting_that_is_missing_or_wrong() {
        let source = Source::from_iter([("EVENT_PARTITIONS", "0"), ("FOLD_BATCH_MAX", "x")]);
        let error = Config::load(&source)
            .expect_err("five mistakes")
            .to_string();
        for name in [
            "KAFKA_BROKERS",
            "REDIS_URL",
            "DATABASE_URL",
            "EVENT_PARTITIONS",
            "FOLD_BATCH_MAX",
        ] {
            assert!(error.contains(name), "{name} in {error}");
        }
    }
}
