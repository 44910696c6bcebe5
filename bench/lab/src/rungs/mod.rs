//! The ladder.

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::lab::{LabWorld, Site};
use crate::plan::Load;
use crate::report::Outcome;
use crate::run::run;
use crate::scenario::Scenario;
use crate::strategy::{Accepted, Card, Strategy};
use crate::worker;

mod actor;
mod conditional;
mod counter;
mod fencing;
mod lua;
mod mutex;
mod naive;
mod owned_lock;
mod pipeline;
mod redis_lock;
mod redlock;
mod redlock_fenced;
mod reentrant;
mod row_lock;
mod segments;
mod skip_locked;
mod stream;
mod transaction;
mod two_rows;
mod version;
mod wide_lock;

/// The step on which the project's own services stand.
const SERVICES_STEP: u8 = 10;

type Run = for<'a> fn(&'a LabWorld, Scenario, &'a Load) -> BoxFuture<'a, Result<Outcome>>;
type Work = fn(Site) -> BoxFuture<'static, Result<()>>;

/// Rungs whose speeds are measured by turns, as they are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stock is in PostgreSQL, and so is what keeps buyers apart.
    Database,
    /// The stock is in PostgreSQL behind a lock in Redis.
    Lock,
    /// The stock is in Redis.
    Redis,
}

impl Kind {
    /// All of them, in the ladder's order.
    pub const ALL: [Self; 3] = [Self::Database, Self::Lock, Self::Redis];
}

/// Those whose answers are timed at the same load: an order written in the request, and a reservation answered at once.
const SIDE_BY_SIDE: [&str; 4] = ["unique-index", "lua-insert", "lua-stream", "pipeline"];

/// A strategy, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// What it is.
    pub card: Card,
    /// What an accepted order is when its buyer is told.
    pub accepted: Accepted,
    run: Run,
    work: Work,
}

impl Rung {
    fn of<S: Strategy>() -> Self {
        Self {
            card: S::CARD,
            accepted: S::ACCEPTED,
            run: |world, scenario, load| Box::pin(run::<S>(world, scenario, load)),
            work: |site| Box::pin(worker::run::<S>(site)),
        }
    }

    /// Whether it sells through the project's services: its world needs a pipeline, and its scenarios
    /// strike what they all share, so that only one may run at a time.
    #[must_use]
    pub fn needs_services(&self) -> bool {
        self.card.step == SERVICES_STEP
    }

    /// With which others it is compared.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.card.step {
            ..=5 | 7 => Kind::Database,
            6 => Kind::Lock,
            _ => Kind::Redis,
        }
    }

    /// Whether its answers are timed at the same load as others'.
    #[must_use]
    pub fn is_side_by_side(&self) -> bool {
        SIDE_BY_SIDE.contains(&self.card.name)
    }

    /// Runs one scenario on it, on a sale of its own.
    ///
    /// # Errors
    /// When a store does not answer; what goes wrong for a buyer is part of the outcome.
    pub async fn run(&self, world: &LabWorld, scenario: Scenario, load: &Load) -> Result<Outcome> {
        (self.run)(world, scenario, load).await
    }

    /// Lives the life of one buyer's process: [`worker::run`].
    ///
    /// # Errors
    /// As [`worker::run`].
    pub async fn work(&self, site: Site) -> Result<()> {
        (self.work)(site).await
    }
}

/// All rungs, from the ground up.
#[must_use]
pub fn all() -> Vec<Rung> {
    vec![
        Rung::of::<naive::Naive>(),
        Rung::of::<mutex::OneProcess>(),
        Rung::of::<mutex::OnePerUser>(),
        Rung::of::<actor::Actor>(),
        Rung::of::<transaction::ReadCommitted>(),
        Rung::of::<transaction::RepeatableRead>(),
        Rung::of::<transaction::Serializable>(),
        Rung::of::<row_lock::ForUpdate>(),
        Rung::of::<row_lock::ForShare>(),
        Rung::of::<two_rows::AnyOrder>(),
        Rung::of::<two_rows::SameOrder>(),
        Rung::of::<wide_lock::Table>(),
        Rung::of::<skip_locked::SkipLocked>(),
        Rung::of::<wide_lock::Advisory>(),
        Rung::of::<version::WithoutRetry>(),
        Rung::of::<version::WithRetry>(),
        Rung::of::<conditional::Conditional>(),
        Rung::of::<conditional::OnePerUser>(),
        Rung::of::<redis_lock::SetNx>(),
        Rung::of::<redis_lock::SetNxThenExpire>(),
        Rung::of::<redis_lock::SetNxPx>(),
        Rung::of::<owned_lock::GetThenDelete>(),
        Rung::of::<owned_lock::Owned>(),
        Rung::of::<owned_lock::Watchdog>(),
        Rung::of::<reentrant::Reentrant>(),
        Rung::of::<redlock::Redlock>(),
        Rung::of::<fencing::Fencing>(),
        Rung::of::<redlock_fenced::RedlockFenced>(),
        Rung::of::<segments::Segments>(),
        Rung::of::<segments::NextSegment>(),
        Rung::of::<counter::Tokens>(),
        Rung::of::<counter::Decrement>(),
        Rung::of::<counter::Segments>(),
        Rung::of::<lua::ThenInsert>(),
        Rung::of::<stream::Stream>(),
        Rung::of::<pipeline::ThisProject>(),
    ]
}
