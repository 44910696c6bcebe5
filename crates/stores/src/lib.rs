//! Where the log, Redis and PostgreSQL are: the settings that every service has, and the operators' commands one
//! by one; and how far the stores' clocks are apart.

pub mod clocks;
mod kafka;
mod registry;

use std::path::PathBuf;

use seckill_eventlog::{KafkaSettings, Topics};
use seckill_orderbook::check_database_url;
use seckill_service::settings::{Reader, Secret};
use seckill_stock::{RedisServer, TlsFiles, check_server};

pub use kafka::Kafka;
pub use registry::wait_for_schema_ids;

/// `REDIS_URL` and `REDIS_SSL_…_LOCATION`.
pub fn redis(reader: &mut Reader<'_>) -> Option<RedisServer> {
    let url = reader.secret("REDIS_URL", 1);
    let mut file = |name| reader.optional::<PathBuf>(name);
    let tls = TlsFiles {
        ca: file("REDIS_SSL_CA_LOCATION")?,
        certificate: file("REDIS_SSL_CERTIFICATE_LOCATION")?,
        key: file("REDIS_SSL_KEY_LOCATION")?,
    };
    let server = url.map(|url| RedisServer {
        url: url.expose().to_owned(),
        tls,
    });
    reader.accept("REDIS_URL", server, check_server)
}

/// `DATABASE_URL`.
pub fn database_url(reader: &mut Reader<'_>) -> Option<Secret> {
    let url = reader.secret("DATABASE_URL", 1);
    reader.accept("DATABASE_URL", url, |url| check_database_url(url.expose()))
}

/// Where the stores are.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// Where the log is.
    pub kafka: Kafka,
    /// Where Redis is.
    pub redis: RedisServer,
    /// `DATABASE_URL`; it may hold a password.
    pub database_url: Secret,
}

impl StoreSettings {
    /// Reads and checks all of them. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // All are read before the first `?`, so that every mistake is found.
        let (kafka, redis) = (Kafka::read(reader), redis(reader));
        let database_url = database_url(reader);
        Some(Self {
            kafka: kafka?,
            redis: redis?,
            database_url: database_url?,
        })
    }

    /// For a Kafka client of this name.
    #[must_use]
    pub fn kafka(&self, client_id: &str) -> KafkaSettings {
        self.kafka.client(client_id)
    }

    /// The deployment's topics.
    #[must_use]
    pub fn topics(&self) -> Topics {
        self.kafka.topics()
    }
}
