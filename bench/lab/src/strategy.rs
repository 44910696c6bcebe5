//! What a rung of the ladder is.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::lab::{Lab, RoundTrips};
use crate::scenario::Expected;

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
