//! Buyers, many at a time, and what they were told.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use crate::failure::Failure;
use crate::plan::Plan;
use crate::report::Outcome;
use crate::scenario::{Scenario, Verdict};
use crate::strategy::{Answer, Buyer, Strategy};

type Told = Result<Answer, Failure>;

/// One click, with its buyer's patience.
pub(crate) async fn buy<S: Strategy>(rung: &S, buyer: Buyer, patience: Duration) -> Told {
    timeout(patience.max(S::PATIENCE_MIN), rung.buy(buyer))
        .await
        .unwrap_or(Err(Failure::NoAnswer))
}

/// What the buyers were told.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// How many clicked.
    pub(crate) clicks: usize,
    /// How many were told that they have bought.
    bought: i64,
    /// How long each accepted order took.
    accepted: Vec<Duration>,
    /// From the first click to the last acceptance.
    elapsed: Duration,
    errors: BTreeMap<String, u64>,
}

impl Crowd {
    /// The buyers of these numbers, as many at a time as the plan says.
    ///
    /// # Errors
    /// When a rung panics.
    pub(crate) async fn send<S: Strategy>(
        rung: &Arc<S>,
        scenario: Scenario,
        plan: &Plan,
        buyers: Range<usize>,
    ) -> Result<Self> {
        let patience = plan.patience;
        let click = move |buyer| {
            let rung = Arc::clone(rung);
            async move { buy(&*rung, buyer, patience).await }
        };
        Self::send_by(click, scenario, plan, buyers).await
    }

    /// The same, where a click is something else than a call of the rung.
    ///
    /// # Errors
    /// When a click panics.
    pub(crate) async fn send_by<Clicked: Future<Output = Told> + Send + 'static>(
        click: impl Fn(Buyer) -> Clicked,
        scenario: Scenario,
        plan: &Plan,
        buyers: Range<usize>,
    ) -> Result<Self> {
        let start = Instant::now();
        let mut crowd = Self::default();
        let mut tasks = JoinSet::new();
        let mut buyers = buyers.into_iter();
        loop {
            while tasks.len() < plan.concurrency && start.elapsed() < plan.stop_after {
                let Some(number) = buyers.next() else { break };
                if let Some(every) = plan.every {
                    sleep_until((start + every * u32::try_from(number)?).into()).await;
                }
                let user = match scenario {
                    Scenario::DoubleClick => 0,
                    _ => number,
                };
                let clicked = click(Buyer {
                    user_id: i64::try_from(user)?,
                    click: number,
                });
                tasks.spawn(async move {
                    let start = Instant::now();
                    (clicked.await, start.elapsed())
                });
                crowd.clicks += 1;
            }
            let Some(told) = tasks.join_next().await else {
                return Ok(crowd);
            };
            crowd.note(told.context("a buyer's task")?, start);
        }
    }

    fn note(&mut self, (answer, latency): (Told, Duration), start: Instant) {
        match answer {
            Ok(Answer::Bought) => {
                self.bought += 1;
                self.accepted.push(latency);
                self.elapsed = start.elapsed();
            }
            Ok(Answer::SoldOut | Answer::Already) => {}
            Err(failure) => self.count_error(failure.to_string()),
        }
    }

    /// One more, who was not among those sent: what came of its click.
    pub(crate) fn add(&mut self, told: Result<Answer, String>) {
        self.clicks += 1;
        match told {
            Ok(Answer::Bought) => self.bought += 1,
            Ok(Answer::SoldOut | Answer::Already) => {}
            Err(kind) => self.count_error(kind),
        }
    }

    fn count_error(&mut self, kind: String) {
        *self.errors.entry(kind).or_default() += 1;
    }

    /// What came of it, with nothing known yet of the stores but `sold` and `duplicates`.
    pub(crate) fn outcome(
        mut self,
        scenario: Scenario,
        stock: i64,
        sold: i64,
        duplicates: i64,
    ) -> Outcome {
        self.accepted.sort_unstable();
        Outcome {
            scenario,
            verdict: Verdict::Safe,
            stock,
            clicks: self.clicks,
            sold,
            oversold: (sold - stock).max(0),
            unkept: (self.bought - sold).max(0),
            undersold: 0,
            lost: 0,
            duplicates,
            accepted_per_second: self.accepted.len() as f64
                / self.elapsed.as_secs_f64().max(f64::EPSILON),
            p50_ms: percentile_ms(&self.accepted, 50),
            p99_ms: percentile_ms(&self.accepted, 99),
            errors: self.errors,
            database_trips_per_order: 0.0,
            redis_trips_per_order: 0.0,
        }
    }
}

/// By nearest rank; 0 without samples.
fn percentile_ms(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let latency = rank.checked_sub(1).and_then(|index| sorted.get(index));
    latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert!((percentile_ms(&sorted, 50) - 100.0).abs() < 1e-9);
        assert!((percentile_ms(&sorted, 99) - 198.0).abs() < 1e-9);
        assert!(percentile_ms(&[], 99).abs() < 1e-9);
    }

    #[test]
    fn a_promise_without_a_row_is_unkept() {
        let mut crowd = Crowd::default();
        for told in [
            Ok(Answer::Bought),
            Ok(Answer::Bought),
            Err("died".to_owned()),
        ] {
            crowd.add(told);
        }
        let outcome = crowd.outcome(Scenario::Restart, 2, 1, 0);
        assert_eq!((outcome.unkept, outcome.oversold), (1, 0));
        assert_eq!(outcome.errors["died"], 1);
    }
}
