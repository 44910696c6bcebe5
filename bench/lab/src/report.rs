//! What a run found out.

use std::collections::BTreeMap;

use seckill_bench::machine::Machine;
use serde::{Deserialize, Serialize};

use crate::plan::Load;
use crate::scenario::{Scenario, Verdict};

/// All rungs of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Where the speeds were measured, once they were.
    pub machine: Option<Machine>,
    /// The size of the load.
    pub load: Load,
    /// One for each rung that was run, in the ladder's order.
    pub rungs: Vec<RungReport>,
}

/// One rung.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RungReport {
    pub name: String,
    /// One for each scenario in which something is made to happen, in their order.
    pub outcomes: Vec<Outcome>,
    /// One for each round of the load.
    pub loads: Vec<Outcome>,
    /// One for each round of the steady load, if it was run.
    pub steady: Vec<Outcome>,
}

impl RungReport {
    /// Of a rung that has not been run.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            outcomes: Vec::new(),
            loads: Vec::new(),
            steady: Vec::new(),
        }
    }

    /// What came of one scenario, if it was run.
    #[must_use]
    pub fn outcome(&self, scenario: Scenario) -> Option<&Outcome> {
        self.outcomes
            .iter()
            .find(|outcome| outcome.scenario == scenario)
    }
}

/// What came of one scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Which one.
    pub scenario: Scenario,
    /// What it means.
    pub verdict: Verdict,
    /// Units that were on sale.
    pub stock: i64,
    /// Buyers who clicked.
    pub clicks: usize,
    /// Orders when all buyers had been answered.
    pub sold: i64,
    /// Of them, more than there were units.
    pub oversold: i64,
    /// Orders that were promised and are no rows.
    pub unkept: i64,
    /// Units left when all buyers had been answered; 0 in the double click and in a load
    /// that was cut short.
    pub undersold: i64,
    /// Of them, those that buyers who came later could not buy either.
    pub lost: i64,
    /// Orders beyond the first of the same user.
    pub duplicates: i64,
    /// Buyers without an answer, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Accepted orders a second, from the first click to the last acceptance.
    pub accepted_per_second: f64,
    /// Half of the accepted orders took no longer, in milliseconds.
    pub p50_ms: f64,
    /// 99 of a hundred accepted orders took no longer, in milliseconds.
    pub p99_ms: f64,
    /// Statements sent to PostgreSQL, for each order.
    pub database_trips_per_order: f64,
    /// Commands sent to Redis, for each order.
    pub redis_trips_per_order: f64,
}
