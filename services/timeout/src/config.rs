//! The settings of this service.

use std::net::SocketAddr;
use std::time::Duration;

use seckill_eventlog::{check_brokers, check_topic_prefix};
use seckill_orderbook::check_database_url;
use seckill_stock::check_url;
use seckill_telemetry::logs::{LogFormat, check_filter};
use seckill_telemetry::settings::{Reader, Secret, SettingsError, Source};

/// Everything the service is told at its start.
#[derive(Debug, Clone)]
pub struct Config {
    /// `KAFKA_BROKERS`.
    pub kafka_brokers: String,
    /// `TOPIC_PREFIX`, before every topic's name; usually empty.
    pub topic_prefix: String,
    /// `EVENT_PARTITIONS`: how many partitions the event topic has to have.
    pub event_partitions: i32,
    /// `REDIS_URL`; it may hold a password.
    pub redis_url: Secret,
    /// `DATABASE_URL`; it may hold a password.
    pub database_url: Secret,
    /// `TIMEOUT_ADMIN_LISTEN`: where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// `EXPIRY_GRACE_SECONDS`: how long past its deadline an order is left alone, and how far the
    /// clocks of the database and Redis may be apart.
    pub grace: Duration,
    /// `EXPIRY_POLL_MS`: how long to wait when nothing more was due.
    pub poll_interval: Duration,
    /// `RUST_LOG`.
    pub log_filter: String,
    /// `LOG_FORMAT`.
    pub log_format: LogFormat,
}

impl Config {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// Every mistake, at once.
    pub fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // All are read before the first `?`, so that every mistake is found.
        let kafka_brokers: Option<String> = reader.required("KAFKA_BROKERS");
        let kafka_brokers = reader.accept("KAFKA_BROKERS", kafka_brokers, |b| check_brokers(b));
        let topic_prefix = reader.or("TOPIC_PREFIX", String::new());
        let topic_prefix = reader.accept("TOPIC_PREFIX", topic_prefix, |p| check_topic_prefix(p));
        let event_partitions = reader.or("EVENT_PARTITIONS", 12);
        let redis_url = reader.secret("REDIS_URL", 1);
        let redis_url = reader.accept("REDIS_URL", redis_url, |url| check_url(url.expose()));
        let database_url = reader.secret("DATABASE_URL", 1);
        let database_url = reader.accept("DATABASE_URL", database_url, |url| {
            check_database_url(url.expose())
        });
        let admin_listen = reader.or(
            "TIMEOUT_ADMIN_LISTEN",
            SocketAddr::from(([127, 0, 0, 1], 8083)),
        );
        let grace_seconds: Option<u32> = reader.or("EXPIRY_GRACE_SECONDS", 2);
        let poll_ms: Option<u32> = reader.or("EXPIRY_POLL_MS", 200);
        let log_filter = reader.or("RUST_LOG", "info".to_owned());
        let log_filter = reader.accept("RUST_LOG", log_filter, |filter| check_filter(filter));
        let log_format = reader.or("LOG_FORMAT", LogFormat::Json);
        if event_partitions.is_some_and(|count| count < 1) {
            reader.refuse("EVENT_PARTITIONS", "is less than 1");
        }
        if poll_ms == Some(0) {
            reader.refuse(
                "EXPIRY_POLL_MS",
                "is 0: that would never let the database rest",
            );
        }
        Some(Self {
            kafka_brokers: kafka_brokers?,
            topic_prefix: topic_prefix?,
            event_partitions: event_partitions?,
            redis_url: redis_url?,
            database_url: database_url?,
            admin_listen: admin_listen?,
            grace: Duration::from_secs(grace_seconds?.into()),
            poll_interval: Duration::from_millis(poll_ms?.into()),
            log_filter: log_filter?,
            log_format: log_format?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_in_what_is_not_set() {
        let config = Config::load(&Source::from_iter([
            ("KAFKA_BROKERS", "localhost:9092"),
            ("REDIS_URL", "redis://:hunter2@localhost"),
            ("DATABASE_URL", "postgres://localhost/seckill"),
        ]))
        .unwrap();
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8083");
        assert_eq!(config.event_partitions, 12);
        assert_eq!(config.grace, Duration::from_secs(2));
        assert_eq!(config.poll_interval, Duration::from_millis(200));
        assert_eq!(config.log_format, LogFormat::Json);
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let names = [
            "KAFKA_BROKERS",
            "REDIS_URL",
            "DATABASE_URL",
            "TIMEOUT_ADMIN_LISTEN",
            "EXPIRY_GRACE_SECONDS",
            "EXPIRY_POLL_MS",
            "EVENT_PARTITIONS",
            "LOG_FORMAT",
        ];
        let SettingsError(errors) = Config::load(&Source::from_iter([
            ("TIMEOUT_ADMIN_LISTEN", "8083"),
            ("EXPIRY_GRACE_SECONDS", "-1"),
            ("EXPIRY_POLL_MS", "0"),
            ("EVENT_PARTITIONS", "0"),
            ("LOG_FORMAT", "xml"),
        ]))
        .unwrap_err();
        assert_eq!(errors.len(), names.len(), "{errors:?}");
        for name in names {
            assert!(
                errors.iter().any(|e| e.starts_with(name)),
                "{name}: {errors:?}"
            );
        }
    }
}
