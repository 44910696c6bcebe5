//! Why a buyer is told nothing.

use thiserror::Error;

/// Why a buyer is told nothing.
#[derive(Debug, Error)]
pub enum Failure {
    /// PostgreSQL chose this transaction as a deadlock's victim.
    #[error("deadlock")]
    Deadlock,
    /// A concurrent transaction came first; the whole transaction may be tried again.
    #[error("serialization failure")]
    Serialization,
    /// A unique index has the key already.
    #[error("duplicate key")]
    DuplicateKey,
    /// The row's version changed since it was read.
    #[error("version conflict")]
    Conflict,
    /// A newer holder of the lock has written already.
    #[error("stale fencing token")]
    StaleToken,
    /// The lock did not become free in time.
    #[error("lock time-out")]
    LockTimeout,
    /// All connections of the pool were in use for too long.
    #[error("no connection")]
    NoConnection,
    /// No answer in time.
    #[error("no answer")]
    NoAnswer,
    /// Any other refusal of PostgreSQL.
    #[error("database: {0}")]
    Database(sqlx::Error),
    /// Any refusal of Redis.
    #[error("redis: {}", .0.category())]
    Redis(#[from] redis::RedisError),
    /// An answer over HTTP that is no answer: its status and the problem's name.
    #[error("http: {0}")]
    Refused(String),
    /// What the rung is made of does not work.
    #[error("{0:#}")]
    Broken(#[from] anyhow::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            Some("40P01") => Self::Deadlock,
            Some("40001") => Self::Serialization,
            Some("23505") => Self::DuplicateKey,
            _ => Self::Database(error),
        }
    }
}
