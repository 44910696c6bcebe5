//! The projector's settings.

use std::net::SocketAddr;
use std::time::Duration;

use seckill_service::logs::LogSettings;
use seckill_service::settings::{Reader, SettingsError, Source};
use seckill_service::traces::TraceSettings;
use seckill_stores::StoreSettings;

/// All settings of the projector.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the stores are.
    pub stores: StoreSettings,
    /// `PROMISE_DEADLINE_MS`: how long a grant may still become a promise; the drain of a reload.
    pub promise_deadline: Duration,
    /// `FOLD_BATCH_MAX`: the most records in one transaction.
    pub fold_batch_max: usize,
    /// `PROJECTOR_ADMIN_LISTEN`.
    pub admin_listen: SocketAddr,
    /// Log level and format.
    pub logs: LogSettings,
    /// Where spans go.
    pub traces: TraceSettings,
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
        let stores = StoreSettings::read(reader);
        let promise_deadline_ms = reader.or("PROMISE_DEADLINE_MS", 3_000);
        let fold_batch_max = reader.or("FOLD_BATCH_MAX", 1_000);
        let admin_listen = reader.or(
            "PROJECTOR_ADMIN_LISTEN",
            SocketAddr::from(([127, 0, 0, 1], 8082)),
        );
        let logs = LogSettings::read(reader);
        let traces = TraceSettings::read(reader);
        if fold_batch_max == Some(0) {
            reader.refuse("FOLD_BATCH_MAX", "is 0");
        }
        Some(Self {
            stores: stores?,
            promise_deadline: Duration::from_millis(promise_deadline_ms?),
            fold_batch_max: fold_batch_max?,
            admin_listen: admin_listen?,
            logs: logs?,
            traces: traces?,
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
