//! Does to a rung what a scenario says, and counts what came of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::gate::Trap;
use crate::lab::{Lab, Stores};
use crate::report::Outcome;
use crate::scenario::{Load, Plan, Scenario, Verdict};
use crate::strategy::{Answer, Buyer, Failure, Strategy};

/// How long after its death a process' connections are known to be broken.
const DETECTION: Duration = Duration::from_millis(200);
/// Late buyers for each unit that is left, before it counts as lost: where they choose a unit's place at
/// random, they need many attempts.
const LATE_BUYERS_PER_UNIT: i64 = 200;
/// No rung needs so long for setting up or for making its promises rows.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);
const DIED: &str = "died";

/// Runs one scenario on one rung, on a sale of its own.
///
/// # Errors
/// When a store does not answer; what goes wrong for a buyer is part of the outcome.
pub async fn run<S: Strategy>(stores: &Stores, scenario: Scenario, load: &Load) -> Result<Outcome> {
    let plan = scenario.plan(load);
    let name = S::CARD.name;
    let lab = Lab::open(stores, name, scenario, &plan).await?;
    let lab = Arc::new(lab);
    let rung = S::prepare(Arc::clone(&lab))
        .await
        .with_context(|| format!("putting units on sale by {name}"))?;
    let rung = Arc::new(rung);
    let database_trips = lab.database.trips.count();
    let redis_trips = lab.cache.trips.count();

    let crowd = Crowd::send(&rung, &lab, scenario, &plan).await;
    settle(&*rung).await?;
    let database_trips = lab.database.trips.count() - database_trips;
    let redis_trips = lab.cache.trips.count() - redis_trips;
    let mut outcome = crowd.outcome(scenario, &lab).await?;
    let orders = outcome.sold.max(1) as f64;
    outcome.database_trips_per_order = database_trips as f64 / orders;
    outcome.redis_trips_per_order = redis_trips as f64 / orders;

    match scenario {
        Scenario::DoubleClick => click_again(&*rung, &lab, &plan, &mut outcome).await?,
        // Cut short, a load says nothing about what is left.
        Scenario::Load if outcome.clicks < plan.buyers => {}
        Scenario::Load => outcome.stranded = (outcome.stock - outcome.sold).max(0),
        _ => send_late_buyers(&*rung, &lab, &plan, &mut outcome).await?,
    }
    outcome.verdict = verdict(&outcome);
    lab.database.close().await;
    Ok(outcome)
}

/// The same user once more, when the first clicks have been answered.
async fn click_again<S: Strategy>(
    rung: &S,
    lab: &Lab,
    plan: &Plan,
    outcome: &mut Outcome,
) -> Result<()> {
    let buyer = Buyer {
        user_id: 0,
        click: outcome.clicks,
    };
    buy(rung, buyer, plan.patience).await.0?;
    settle(rung).await?;
    outcome.clicks += 1;
    outcome.sold = lab.sold().await?;
    outcome.duplicates = lab.duplicates().await?;
    Ok(())
}

/// One after the other until all is sold, or nobody gets in any more.
async fn send_late_buyers<S: Strategy>(
    rung: &S,
    lab: &Lab,
    plan: &Plan,
    outcome: &mut Outcome,
) -> Result<()> {
    outcome.stranded = (outcome.stock - outcome.sold).max(0);
    let mut left = outcome.stranded;
    let first = plan.buyers;
    let late = usize::try_from(outcome.stranded * LATE_BUYERS_PER_UNIT)?;
    for click in first..first + late {
        if left == 0 {
            break;
        }
        let buyer = Buyer {
            user_id: i64::try_from(click)?,
            click,
        };
        match buy(rung, buyer, plan.patience).await.0 {
            Ok(Answer::Bought) => {
                settle(rung).await?;
                left = (lab.stock - lab.sold().await?).max(0);
            }
            Ok(_) => {}
            Err(failure) => {
                *outcome.errors.entry(failure.to_string()).or_default() += 1;
                break;
            }
        }
    }
    outcome.lost = left;
    Ok(())
}

fn verdict(outcome: &Outcome) -> Verdict {
    let had = |failure: &Failure| outcome.errors.contains_key(&failure.to_string());
    if outcome.oversold > 0 {
        Verdict::Oversells
    } else if outcome.duplicates > 0 {
        Verdict::Duplicates
    } else if had(&Failure::Deadlock) && outcome.scenario != Scenario::DoubleClick {
        Verdict::Deadlocks
    } else if outcome.lost > 0 && (had(&Failure::LockTimeout) || had(&Failure::NoAnswer)) {
        Verdict::Blocks
    } else if outcome.lost > 0 {
        Verdict::LosesUnits
    } else if outcome.stranded > 0 {
        Verdict::Strands
    } else {
        Verdict::Safe
    }
}

async fn settle<S: Strategy>(rung: &S) -> Result<()> {
    timeout(SETTLE_TIMEOUT, rung.settle())
        .await
        .context("what was promised did not become rows in time")??;
    Ok(())
}

type Told = (Result<Answer, Failure>, Duration);

async fn buy<S: Strategy>(rung: &S, buyer: Buyer, patience: Duration) -> Told {
    let start = Instant::now();
    let answer = timeout(patience, rung.buy(buyer))
        .await
        .unwrap_or(Err(Failure::NoAnswer));
    (answer, start.elapsed())
}

/// What the buyers were told.
#[derive(Debug, Default)]
struct Crowd {
    clicks: usize,
    /// How long each accepted order took.
    accepted: Vec<Duration>,
    /// From the first click to the last acceptance.
    elapsed: Duration,
    errors: BTreeMap<String, u64>,
}

impl Crowd {
    async fn send<S: Strategy>(
        rung: &Arc<S>,
        lab: &Arc<Lab>,
        scenario: Scenario,
        plan: &Plan,
    ) -> Self {
        let start = Instant::now();
        let mut crowd = Self::default();
        let mut tasks = JoinSet::new();
        let mut running: HashMap<usize, AbortHandle> = HashMap::new();
        let undertaker = (plan.trap == Trap::Death).then(|| Arc::clone(lab));
        let mut burial = std::pin::pin!(async {
            match undertaker {
                Some(lab) => {
                    let victim = lab.gate.victim().await;
                    sleep(DETECTION).await;
                    victim
                }
                None => std::future::pending().await,
            }
        });
        let mut buried = false;
        loop {
            while tasks.len() < plan.concurrency
                && crowd.clicks < plan.buyers
                && start.elapsed() < plan.stop_after
            {
                let click = crowd.clicks;
                let user_id = if scenario == Scenario::DoubleClick {
                    0
                } else {
                    click
                };
                let user_id = i64::try_from(user_id).unwrap_or(i64::MAX);
                let (rung, patience) = (Arc::clone(rung), plan.patience);
                let buyer = Buyer { user_id, click };
                let task = tasks.spawn(async move { (click, buy(&*rung, buyer, patience).await) });
                running.insert(click, task);
                crowd.clicks += 1;
            }
            tokio::select! {
                done = tasks.join_next() => match done {
                    None => return crowd,
                    Some(Ok((click, told))) => {
                        running.remove(&click);
                        crowd.note(told, start);
                    }
                    // Aborted below: what a death looks like from outside.
                    Some(Err(_)) => crowd.count_error(DIED),
                },
                victim = &mut burial, if !buried => {
                    buried = true;
                    if let Some(task) = victim.and_then(|v| running.remove(&v.click)) {
                        task.abort();
                    }
                }
            }
        }
    }

    fn note(&mut self, (answer, latency): Told, start: Instant) {
        match answer {
            Ok(Answer::Bought) => {
                self.accepted.push(latency);
                self.elapsed = start.elapsed();
            }
            Ok(Answer::SoldOut | Answer::Already) => {}
            Err(failure) => self.count_error(&failure.to_string()),
        }
    }

    fn count_error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    async fn outcome(mut self, scenario: Scenario, lab: &Lab) -> Result<Outcome> {
        self.accepted.sort_unstable();
        let sold = lab.sold().await?;
        Ok(Outcome {
            scenario,
            verdict: Verdict::Safe,
            stock: lab.stock,
            clicks: self.clicks,
            sold,
            oversold: (sold - lab.stock).max(0),
            stranded: 0,
            lost: 0,
            duplicates: lab.duplicates().await?,
            accepted_per_second: self.accepted.len() as f64
                / self.elapsed.as_secs_f64().max(f64::EPSILON),
            p50_ms: percentile_ms(&self.accepted, 50),
            p99_ms: percentile_ms(&self.accepted, 99),
            errors: self.errors,
            database_trips_per_order: 0.0,
            redis_trips_per_order: 0.0,
        })
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
}
