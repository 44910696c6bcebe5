//! What is done to all rungs: the verdicts of each, and the speeds of each kind by turns.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream;
use seckill_testkit::{Database, Postgres, Redis};
use tokio::task::spawn_blocking;

use crate::disk::Disk;
use crate::lab::LabWorld;
use crate::pipeline::Pipeline;
use crate::plan::Load;
use crate::render;
use crate::report::{Outcome, RungReport};
use crate::rungs::{Kind, Rung};
use crate::scenario::Scenario;
use crate::store::Stores;

/// As many as the rung that uses most.
const REDIS_SERVERS: usize = 5;

/// No more than [`Disk`]'s server has connections for.
const RUNGS_AT_A_TIME: usize = 2;

/// Servers for all rungs but the project's own.
#[derive(Debug)]
pub struct Servers {
    _database: Database,
    _postgres: Postgres,
    _redis: Vec<Redis>,
    world: LabWorld,
    disk: Disk,
}

impl Servers {
    /// Starts them.
    ///
    /// # Errors
    /// When one does not come up.
    pub async fn start(disk: Disk, program: PathBuf) -> Result<Self> {
        let redis = (0..REDIS_SERVERS).map(|_| spawn_blocking(move || disk.redis()));
        let redis: Vec<Redis> = try_join_all(redis)
            .await?
            .into_iter()
            .collect::<Result<_>>()?;
        let postgres = disk.postgres()?;
        let database = postgres.fresh_database()?;
        let world = LabWorld {
            stores: Stores {
                database_url: database.url(),
                redis_urls: redis.iter().map(Redis::url).collect(),
            },
            program,
            pipeline: None,
        };
        Ok(Self {
            _database: database,
            _postgres: postgres,
            _redis: redis,
            world,
            disk,
        })
    }

    /// Where they are.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.world.stores
    }

    /// A world with the project's services in it, which have stores of their own.
    async fn with_services(&self) -> Result<LabWorld> {
        let pipeline = Arc::new(Pipeline::start(self.disk).await?);
        Ok(LabWorld {
            stores: pipeline.stores().clone(),
            pipeline: Some(pipeline),
            ..self.world.clone()
        })
    }

    /// Every scenario of each rung in which something is made to happen, into its report. They wait most of the time, so
    /// that some rungs share the machine.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn verdicts(
        &self,
        rungs: &[Rung],
        load: &Load,
        reports: &mut [RungReport],
    ) -> Result<()> {
        let outcomes = rungs.iter().map(|rung| self.duels(rung, load));
        let mut outcomes = stream::iter(outcomes).buffered(RUNGS_AT_A_TIME);
        for report in reports {
            let outcomes = outcomes.next().await.context("a rung's outcomes")?;
            report.outcomes = outcomes.with_context(|| format!("rung {}", report.name))?;
            print!("{}", render::summary(&report.name, &report.outcomes));
        }
        Ok(())
    }

    async fn duels(&self, rung: &Rung, load: &Load) -> Result<Vec<Outcome>> {
        let duels = Scenario::DUELS.into_iter();
        let duels = duels.filter(|scenario| scenario.concerns(&rung.card.expected));
        if rung.needs_services() {
            let world = self.with_services().await?;
            let mut outcomes = Vec::new();
            for scenario in duels {
                outcomes.push(rung.run(&world, scenario, load).await?);
            }
            Ok(outcomes)
        } else {
            let runs = duels.map(|scenario| rung.run(&self.world, scenario, load));
            try_join_all(runs).await
        }
    }

    /// The loads of all rungs into their reports, so many rounds: rungs of one kind by turns, and in the opposite
    /// order every other round.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn speeds(
        &self,
        rungs: &[Rung],
        load: &Load,
        rounds: usize,
        reports: &mut [RungReport],
    ) -> Result<()> {
        for report in &mut *reports {
            report.loads.clear();
            report.steady.clear();
        }
        let mut services = None;
        if rungs.iter().any(Rung::needs_services) {
            services = Some(self.with_services().await?);
        }
        let world_of = |rung: &Rung| match &services {
            Some(services) if rung.needs_services() => services,
            _ => &self.world,
        };
        for kind in Kind::ALL {
            for index in turns(rungs, rounds, |rung| rung.kind() == kind) {
                let (rung, report) = (&rungs[index], &mut reports[index]);
                let outcome = rung.run(world_of(rung), Scenario::Load, load).await;
                let outcome = outcome.with_context(|| format!("rung {}", rung.card.name))?;
                report.loads.push(outcome);
            }
        }
        for index in turns(rungs, rounds, Rung::is_side_by_side) {
            let (rung, report) = (&rungs[index], &mut reports[index]);
            let outcome = rung.run(world_of(rung), Scenario::Steady, load).await;
            let outcome = outcome.with_context(|| format!("rung {}", rung.card.name))?;
            report.steady.push(outcome);
        }
        Ok(())
    }
}

/// Whose turn it is, by their places: all whom it concerns once a round.
fn turns(rungs: &[Rung], rounds: usize, concerns: impl Fn(&Rung) -> bool) -> Vec<usize> {
    let there: Vec<usize> = (0..rungs.len())
        .filter(|index| concerns(&rungs[*index]))
        .collect();
    let mut turns = Vec::new();
    for round in 0..rounds {
        if round % 2 == 0 {
            turns.extend(&there);
        } else {
            turns.extend(there.iter().rev());
        }
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rungs;

    #[test]
    fn rungs_of_a_kind_take_turns_and_the_first_is_last_in_the_next_round() {
        let all = rungs::all();
        let names: Vec<&str> = turns(&all, 2, Rung::is_side_by_side)
            .into_iter()
            .map(|index| all[index].card.name)
            .collect();
        let there = ["unique-index", "lua-insert", "lua-stream", "pipeline"];
        let back = there.into_iter().rev();
        assert_eq!(names, there.into_iter().chain(back).collect::<Vec<_>>());
    }

    #[test]
    fn every_rung_is_of_one_kind() {
        let all = rungs::all();
        let of = |kind| turns(&all, 1, |rung| rung.kind() == kind).len();
        assert_eq!(Kind::ALL.map(of).iter().sum::<usize>(), all.len());
    }
}
