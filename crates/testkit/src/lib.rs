//! A private Kafka, Redis and PostgreSQL for a test run, and real service processes to run against them.
//!
//! Everything is a child process on a loopback port, without a container engine or a daemon of the host. Children die
//! with the process that has started them, also when that is killed.

use std::path::Path;

pub mod apicurio;
pub mod clock;
pub mod codecs;
pub mod http;
pub mod http_server;
pub mod kafka;
pub mod mail;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod produce;
pub mod python;
pub mod redis;
pub mod redis_cluster;
pub mod registry;
pub mod scratch;
pub mod sentinel;
pub mod service;
pub mod shared;
pub mod small_disk;
pub mod stack;
pub mod tls;
pub mod wait;
pub mod wire;
pub mod written;

pub use crate::apicurio::Apicurio;
pub use crate::http_server::HttpServer;
pub use crate::kafka::{Kafka, KafkaCluster};
pub use crate::mail::MailSink;
pub use crate::pgbouncer::{PgBouncer, PoolMode};
pub use crate::postgres::{Database, Postgres};
pub use crate::redis::Redis;
pub use crate::redis_cluster::RedisCluster;
pub use crate::registry::SchemaRegistry;
pub use crate::sentinel::Sentinels;
pub use crate::service::{Env, Service, ServiceSpec};
pub use crate::shared::{fresh_database, shared_kafka, unique_prefix};
pub use crate::small_disk::SmallDisk;
pub use crate::stack::TestStack;
pub use crate::written::{check_written, check_written_json};

/// The top directory of this workspace, with `target` and `ops` in it.
#[must_use]
pub fn workspace_root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package)
}
