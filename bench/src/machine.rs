//! Where a run was measured.

use std::fmt;
use std::fs;

use anyhow::{Context, Result};
use redis::InfoDict;
use redis::aio::MultiplexedConnection;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};

/// The machine and the stores on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// How many of its threads we may use.
    pub cores: usize,
    /// The kernel's version.
    pub kernel: String,
    /// Tasks that ran or waited to, on average over the minute before: what else was going on.
    pub load_average: String,
    /// PostgreSQL's version.
    pub postgresql: String,
    /// Redis' version.
    pub redis: String,
    /// PostgreSQL's `fsync`.
    pub fsync: String,
    /// Redis' `appendonly` and `appendfsync`.
    pub append_only: String,
    /// Whether this program was optimised.
    pub optimised: bool,
}

impl Machine {
    /// This one, with these stores.
    ///
    /// # Errors
    /// When a store does not answer or the machine cannot be asked.
    pub async fn describe(database_url: &str, redis: &mut MultiplexedConnection) -> Result<Self> {
        let mut database = PgConnection::connect(database_url).await?;
        let postgresql = sqlx::query_scalar("SHOW server_version").fetch_one(&mut database);
        let postgresql: String = postgresql.await?;
        let fsync = sqlx::query_scalar("SHOW fsync").fetch_one(&mut database);
        let fsync: String = fsync.await?;
        let info: InfoDict = redis::cmd("INFO").arg("server").query_async(redis).await?;
        Ok(Self {
            cpu: cpu_model().unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            kernel: first_word("/proc/sys/kernel/osrelease", '-')?,
            load_average: first_word("/proc/loadavg", ' ')?,
            // Without the distribution's own version after it.
            postgresql: postgresql.split(' ').take(1).collect(),
            redis: info.get("redis_version").context("Redis' version")?,
            fsync,
            append_only: setting(redis, "appendonly").await?
                + ", "
                + &setting(redis, "appendfsync").await?,
            optimised: !cfg!(debug_assertions),
        })
    }
}

/// In the words of the English pages; without the load, which says something about one moment.
impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.optimised { "release" } else { "debug" };
        write!(
            f,
            "{} ({} threads), Linux {}, PostgreSQL {} with `fsync` {}, Redis {} with `appendonly` and `appendfsync` {}, \
             {build} build",
            self.cpu,
            self.cores,
            self.kernel,
            self.postgresql,
            self.fsync,
            self.redis,
            self.append_only,
        )
    }
}

async fn setting(redis: &mut MultiplexedConnection, name: &str) -> Result<String> {
    let mut get = redis::cmd("CONFIG");
    let (_, value): (String, String) = get.arg("GET").arg(name).query_async(redis).await?;
    Ok(value)
}

fn first_word(path: &str, end: char) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(text.trim().split(end).take(1).collect())
}

fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
