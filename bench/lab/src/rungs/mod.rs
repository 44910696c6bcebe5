//! The ladder.

use anyhow::Result;
use futures_util::future::BoxFuture;

use crate::lab::Stores;
use crate::report::Outcome;
use crate::run::run;
use crate::scenario::{Load, Scenario};
use crate::strategy::{Card, Strategy};

mod actor;
mod conditional;
mod counter;
mod fencing;
mod lua;
mod mutex;
mod naive;
mod owned_lock;
mod redis_lock;
mod row_lock;
mod segments;
mod skip_locked;
mod stream;
mod transaction;
mod version;
mod wide_lock;

type Run = for<'a> fn(&'a Stores, Scenario, &'a Load) -> BoxFuture<'a, Result<Outcome>>;

/// A strategy, without its type.
#[derive(Debug, Clone, Copy)]
pub struct Rung {
    /// What it is.
    pub card: Card,
    run: Run,
}

impl Rung {
    fn of<S: Strategy>() -> Self {
        Self {
            card: S::CARD,
            run: |stores, scenario, load| Box::pin(run::<S>(stores, scenario, load)),
        }
    }

    /// Runs one scenario on it, on a sale of its own.
    ///
    /// # Errors
    /// When a store does not answer; what goes wrong for a buyer is part of the outcome.
    pub async fn run(&self, stores: &Stores, scenario: Scenario, load: &Load) -> Result<Outcome> {
        (self.run)(stores, scenario, load).await
    }
}

/// All rungs, from the ground up.
#[must_use]
pub fn all() -> Vec<Rung> {
    vec![
        Rung::of::<naive::Naive>(),
        Rung::of::<mutex::OneProcess>(),
        Rung::of::<mutex::TwoProcesses>(),
        Rung::of::<actor::Actor>(),
        Rung::of::<transaction::ReadCommitted>(),
        Rung::of::<transaction::RepeatableRead>(),
        Rung::of::<transaction::Serializable>(),
        Rung::of::<row_lock::ForUpdate>(),
        Rung::of::<row_lock::ForShare>(),
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
        Rung::of::<owned_lock::Owned>(),
        Rung::of::<owned_lock::Watchdog>(),
        Rung::of::<fencing::Fencing>(),
        Rung::of::<segments::Segments>(),
        Rung::of::<counter::Tokens>(),
        Rung::of::<counter::Decrement>(),
        Rung::of::<lua::ThenInsert>(),
        Rung::of::<stream::Stream>(),
    ]
}
