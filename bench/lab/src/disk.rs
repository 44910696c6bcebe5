//! Stores that sync what is written to them, or do not.

use anyhow::Result;
use seckill_testkit::postgres::PostgresOptions;
use seckill_testkit::{Postgres, Redis};

/// Each rung needs up to 120 of them.
const CONNECTIONS: u32 = 500;

/// What the stores do with a write before they answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Nothing: verdicts do not depend on it, and are there sooner.
    Unused,
    /// As the project's services have them: PostgreSQL syncs each commit, Redis its append-only file once a second.
    Synced,
}

impl Disk {
    pub(crate) fn postgres(self) -> Result<Postgres> {
        let mut settings = vec![("max_connections", CONNECTIONS.to_string())];
        if self == Self::Synced {
            settings.extend(["fsync", "full_page_writes"].map(|name| (name, "on".to_owned())));
        }
        Postgres::with(PostgresOptions {
            settings,
            ..PostgresOptions::default()
        })
    }

    pub(crate) fn redis(self) -> Result<Redis> {
        match self {
            Self::Unused => Redis::start(),
            Self::Synced => Redis::start_with(&["--appendonly", "yes"]),
        }
    }
}
