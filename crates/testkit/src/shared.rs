//! The Kafka and the PostgreSQL server that all tests of a run share.

use std::sync::OnceLock;

use anyhow::{Result, anyhow};

use crate::kafka::Kafka;
use crate::postgres::{Database, Postgres};
use crate::service::{Env, run_binary};

/// Names the brokers that the tests share; without it, each test process starts its own.
pub const KAFKA_VARIABLE: &str = "SECKILL_TEST_KAFKA";

/// Names a database URL whose user may create databases; without it, each test process starts a server.
pub const DATABASE_VARIABLE: &str = "SECKILL_TEST_DATABASE";

static KAFKA: OnceLock<Result<Kafka, String>> = OnceLock::new();
static POSTGRES: OnceLock<Result<Postgres, String>> = OnceLock::new();
static MIGRATED: OnceLock<Result<Database, String>> = OnceLock::new();

/// The brokers (`host:port`) that all tests share, started at the first call. Use only your own topics:
/// [`unique_prefix`].
///
/// # Errors
/// As [`Kafka::start`], at every call the same.
pub fn shared_kafka() -> Result<String> {
    if let Some(brokers) = variable(KAFKA_VARIABLE) {
        return Ok(brokers);
    }
    once(&KAFKA, Kafka::shared).map(Kafka::brokers)
}

/// A new empty database on the server shared by all tests, which is started at the first call.
///
/// # Errors
/// As [`Postgres::start`], at every call the same.
pub fn fresh_database() -> Result<Database> {
    Database::create(&admin_url()?, None)
}

/// The same with this build's tables: `seckillctl db migrate` was run once, and what it made is copied.
///
/// # Errors
/// As [`fresh_database`], and when `seckillctl` is not built or fails, at every call the same.
pub fn migrated_database() -> Result<Database> {
    let original = once(&MIGRATED, || {
        let database = fresh_database()?;
        let env = Env::from([("DATABASE_URL".to_owned(), database.url())]);
        run_binary("seckillctl", &["db", "migrate"], &env)?;
        Ok(database)
    })?;
    Database::create(&admin_url()?, Some(original))
}

fn admin_url() -> Result<String> {
    Ok(match variable(DATABASE_VARIABLE) {
        Some(url) => url,
        None => once(&POSTGRES, Postgres::start)?.admin_url(),
    })
}

/// A topic prefix that no other test uses. It ends with a dot.
#[must_use]
pub fn unique_prefix() -> String {
    format!("t{}.", uuid::Uuid::new_v4().simple())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Starts a server once and keeps it in a static. It is never dropped, and the kernel kills it with this process.
fn once<T>(
    cell: &'static OnceLock<Result<T, String>>,
    start: impl FnOnce() -> Result<T>,
) -> Result<&'static T> {
    cell.get_or_init(|| start().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|message| anyhow!("{message}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::query;

    #[test]
    fn fresh_databases_are_apart() {
        let first = fresh_database().unwrap();
        let second = fresh_database().unwrap();
        query(&first.url(), "CREATE TABLE t ()").unwrap();
        assert!(query(&second.url(), "TABLE t").is_err());
    }
}
