//! What a rung of the ladder is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::lab::{Lab, RoundTrips};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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

/// What each scenario is expected to show; `None` where it depends on timing.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    /// Everybody meets at the critical point.
    pub race: Option<Verdict>,
    /// One buyer's process stops there for longer than a lease.
    pub pause: Option<Verdict>,
    /// One buyer's process is killed there.
    pub death: Option<Verdict>,
    /// Redis comes back without what it was last told, while one buyer is there; `None` where that
    /// says nothing, and it is not run.
    pub restart: Option<Verdict>,
    /// Redis' clock steps beyond every lease, while one buyer is there; `None` where that says
    /// nothing, and it is not run.
    pub clock_step: Option<Verdict>,
    /// One user clicks in two processes at once; `None` where two processes are nothing special, and
    /// it is not run. So it is with all that follow down to [`Expected::pool`].
    pub two_processes: Option<Verdict>,
    /// One buyer's process works there for longer than a lease, and is alive.
    pub slow_work: Option<Verdict>,
    /// One buyer's lease ends between its work and its release of the lock.
    pub late_release: Option<Verdict>,
    /// Two of the rung's five Redis servers are dead.
    pub two_dead: Option<Verdict>,
    /// Three of them are.
    pub three_dead: Option<Verdict>,
    /// As many buyers as units, a thousand.
    pub thousand: Option<Verdict>,
    /// 200 clients over HTTP, twenty connections to PostgreSQL, and one buyer who stands still.
    pub pool: Option<Verdict>,
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
        restart: None,
        clock_step: None,
        two_processes: None,
        slow_work: None,
        late_release: None,
        two_dead: None,
        three_dead: None,
        thousand: None,
        pool: None,
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

    /// A lock in Redis that nothing but Redis keeps: who holds it while Redis forgets it sells on.
    pub const LEASED: Self = Self {
        pause: Some(Verdict::Oversells),
        restart: Some(Verdict::Oversells),
        clock_step: Some(Verdict::Oversells),
        slow_work: Some(Verdict::Oversells),
        late_release: Some(Verdict::Safe),
        ..Self::SAFE
    };
}

/// What an accepted order is at the moment when its buyer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// A row in PostgreSQL: it was written in the request.
    Row,
    /// An entry in Redis, which becomes a row later.
    Entry,
    /// A record in the log, which becomes a row later.
    Record,
}

impl Accepted {
    /// For people.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Row => "a row",
            Self::Entry => "an entry in Redis",
            Self::Record => "a record in the log",
        }
    }
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

    /// How many Redis servers it uses.
    const REDIS_SERVERS: usize = 1;

    /// Whether all its buyers have to be in one process: when that stands still or dies, nobody else sells.
    const ONE_PROCESS: bool = false;

    /// What an accepted order is when its buyer is told.
    const ACCEPTED: Accepted = Accepted::Row;

    /// Buyers wait at least so long for an answer.
    const PATIENCE_MIN: Duration = Duration::ZERO;

    /// Puts `lab.stock` units on sale, where it takes more than the common tables.
    ///
    /// # Errors
    /// When a store refuses.
    fn prepare(lab: &Lab) -> impl Future<Output = Result<(), Failure>> + Send {
        let _ = lab;
        async { Ok(()) }
    }

    /// A process that sells them. Several may be open at a time, in several processes.
    ///
    /// # Errors
    /// When a store refuses.
    fn open(lab: Arc<Lab>) -> impl Future<Output = Result<Self, Failure>> + Send;

    /// Tries to buy one unit. Passes the lab's gate at its critical point, and its exit before it gives a lease back.
    ///
    /// # Errors
    /// When the buyer cannot be told anything.
    fn buy(&self, buyer: Buyer) -> impl Future<Output = Result<Answer, Failure>> + Send;

    /// What goes on beside the buyers, in a process that no fault strikes: why it had to end.
    fn work(&self) -> impl Future<Output = Failure> + Send {
        std::future::pending()
    }

    /// What it has cost so far.
    ///
    /// # Errors
    /// When a store refuses.
    fn round_trips(lab: &Lab) -> impl Future<Output = Result<RoundTrips, Failure>> + Send {
        let trips = lab.counted();
        async move { Ok(trips) }
    }

    /// Waits until every order it has promised is a row.
    ///
    /// # Errors
    /// When a store refuses, or it takes too long.
    fn settle(&self) -> impl Future<Output = Result<(), Failure>> + Send {
        async { Ok(()) }
    }
}
