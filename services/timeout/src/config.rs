//! The settings of this service.

use std::net::SocketAddr;
use std::time::Duration;

use seckill_service::logs::LogSettings;
use seckill_service::settings::{Reader, SettingsError, Source};
use seckill_service::traces::TraceSettings;
use seckill_stores::StoreSettings;

/// All settings of the service.
#[derive(Debug, Clone)]
pub struct Config {
    /// The addresses of the stores.
    pub stores: StoreSettings,
    /// `TIMEOUT_ADMIN_LISTEN`: where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// `EXPIRY_GRACE_SECONDS`: how long the service waits after an order's deadline before it expires the order, and
    /// how much the clocks of the database and Redis may differ.
    pub grace: Duration,
    /// `EXPIRY_POLL_MS`: how long the service waits when no more orders are due.
    pub poll_interval: Duration,
    /// Log level and format.
    pub logs: LogSettings,
    /// Where traces are sent.
    pub traces: TraceSettings,
}

impl Config {
    /// Reads and checks all settings.
    ///
    /// # Errors
    /// All mistakes together.
    pub fn load(source: &Source) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(source);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // All are read before the first `?`, so that every mistake is found.
        let stores = StoreSettings::read(reader);
        let admin_listen = reader.or(
            "TIMEOUT_ADMIN_LISTEN",
            SocketAddr::from(([127, 0, 0, 1], 8083)),
        );
        let grace_seconds: Option<u32> = reader.or("EXPIRY_GRACE_SECONDS", 2);
        let poll_ms: Option<u32> = reader.or("EXPIRY_POLL_MS", 200);
        let logs = LogSettings::read(reader);
        let traces = TraceSettings::read(reader);
        if poll_ms == Some(0) {
            reader.refuse(
                "EXPIRY_POLL_MS",
                "is 0: that would never let the database rest",
            );
        }
        Some(Self {
            stores: stores?,
            admin_listen: admin_listen?,
            grace: Duration::from_secs(grace_seconds?.into()),
            poll_interval: Duration::from_millis(poll_ms?.into()),
            logs: logs?,
            traces: traces?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_service::logs::LogFormat;

    #[test]
    fn defaults_fill_in_what_is_not_set() {
        let config = Config::load(&Source::from_iter([
            ("KAFKA_BROKERS", "localhost:9092"),
            ("REDIS_URL", "redis://:hunter2@localhost"),
            ("DATABASE_URL", "postgres://localhost/seckill"),
        ]))
        .unwrap();
        assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8083");
        assert_eq!(config.stores.kafka.partitions, 12);
        assert_eq!(config.grace, Duration::from_secs(2));
        assert_eq!(config.poll_interval, Duration::from_millis(200));
        assert_eq!(config.logs.format, LogFormat::Json);
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
