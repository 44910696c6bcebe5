//! What a rung of the ladder is.

use std::future::Future;
use std::sync::Arc;

use thiserror::Error;

use crate::lab::Lab;
use crate::scenario::Verdict;

/// One click of one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buyer {
    /// Who clicks.
    pub user_id: i64,
    /// Unique within a scenario, also when the same user clicks again.
    pub click: usize,
}

/// What a buyer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// One unit is theirs.
    Bought,
    /// None was left.
    SoldOut,
    /// They have an order already.
    Already,
}

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
    /// No answer in time.
    #[error("no answer")]
    NoAnswer,
    /// Any other refusal of PostgreSQL.
    #[error("database: {0}")]
    Database(sqlx::Error),
    /// Any refusal of Redis.
    #[error("redis: {0}")]
    Redis(#[from] redis::RedisError),
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

/// What each scenario is expected to show; `None` where it depends on timing.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Everybody meets at the critical point.
    pub race: Option<Verdict>,
    /// One buyer's process stops there for longer than a lease.
    pub pause: Option<Verdict>,
    /// One buyer's process dies there.
    pub death: Option<Verdict>,
    /// One user clicks twice at once, and then again.
    pub double_click: Option<Verdict>,
    /// As many buyers as units.
    pub exact: Option<Verdict>,
}

impl Expected {
    /// Sells all units once each, but knows no user: who clicks twice buys twice.
    pub const SAFE: Self = Self {
        race: Some(Verdict::Safe),
        pause: Some(Verdict::Safe),
        death: Some(Verdict::Safe),
        double_click: Some(Verdict::Duplicates),
        exact: Some(Verdict::Safe),
    };

    /// Fails where buyers overlap; whether they do without help is luck.
    pub const OVERSELLS: Self = Self {
        race: Some(Verdict::Oversells),
        pause: Some(Verdict::Oversells),
        death: None,
        exact: None,
        ..Self::SAFE
    };
}

/// What is said about a rung, and what it is expected to do.
#[derive(Debug, Clone, Copy)]
pub struct Card {
    /// For the command line and the table.
    pub name: &'static str,
    /// Which step of the ladder it stands on, from 1.
    pub step: u8,
    /// The idea, in a line.
    pub title: &'static str,
    /// What happens and why, a paragraph.
    pub story: &'static str,
    /// The interleaving that breaks it, as preformatted text; empty where none was found.
    pub diagram: &'static str,
    /// What each scenario shows.
    pub expected: Expected,
}

/// One way to sell units that are few to buyers who are many.
pub trait Strategy: Send + Sync + Sized + 'static {
    /// What it is.
    const CARD: Card;

    /// Puts `lab.stock` units on sale in stores that have only the common tables.
    ///
    /// # Errors
    /// When a store refuses.
    fn prepare(lab: Arc<Lab>) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Tries to buy one unit. Calls [`crate::gate::Gate::pass`] at its critical point.
    ///
    /// # Errors
    /// When the buyer cannot be told anything.
    fn buy(&self, buyer: Buyer) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// Waits until every order it has promised is a row.
    ///
    /// # Errors
    /// When a store refuses, or it takes too long.
    fn settle(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }
}
