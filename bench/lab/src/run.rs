//! Does to a rung what a scenario says, and counts what came of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::timeout;

use crate::crowd::{Crowd, buy};
use crate::failure::Failure;
use crate::fault::{Seller, strike, strike_services};
use crate::lab::{Lab, LabWorld};
use crate::late_release::release_late;
use crate::over_http::{come_by_the_clock, exhaust_pool};
use crate::plan::{Load, Plan};
use crate::report::Outcome;
use crate::scenario::{Scenario, Verdict};
use crate::strategy::{Answer, Buyer, Strategy};

/// Late buyers for each unit that is left, before it counts as lost: where they choose a unit's place at
/// random, they need many attempts.
const LATE_BUYERS_PER_UNIT: i64 = 200;
/// No rung needs so long for making its promises rows.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs one scenario on one rung, on a sale of its own.
///
/// # Errors
/// When a store does not answer; what goes wrong for a buyer is part of the outcome.
pub async fn run<S: Strategy>(
    world: &LabWorld,
    scenario: Scenario,
    load: &Load,
) -> Result<Outcome> {
    let plan = scenario.plan(load);
    let name = S::CARD.name;
    let lab = Lab::found(world, name, &plan, S::REDIS_SERVERS).await?;
    let lab = Arc::new(lab);
    S::prepare(&lab)
        .await
        .with_context(|| format!("putting units on sale by {name}"))?;
    let before = S::round_trips(&lab).await?;

    lab.kill_redis(plan.dead_servers)?;

    let (mut seller, crowd) = match (plan.fault, &lab.pipeline) {
        _ if scenario == Scenario::LateRelease => release_late::<S>(&lab, &plan).await?,
        _ if scenario == Scenario::Pool => exhaust_pool::<S>(&lab, &plan).await?,
        _ if scenario == Scenario::Steady => come_by_the_clock::<S>(&lab, &plan).await?,
        (Some(fault), None) => strike::<S>(world, &lab, scenario, &plan, fault).await?,
        (Some(fault), Some(pipeline)) => {
            strike_services::<S>(pipeline, &lab, scenario, &plan, fault).await?
        }
        (None, _) => {
            let seller = Seller::<S>::open(&lab).await?;
            let crowd = Crowd::send(&seller.rung, scenario, &plan, 0..plan.buyers).await?;
            (seller, crowd)
        }
    };
    settle(&mut seller).await?;
    let after = S::round_trips(&lab).await?;
    let mut outcome = crowd.outcome(
        scenario,
        lab.stock,
        lab.sold().await?,
        lab.duplicates().await?,
    );
    let orders = outcome.sold.max(1) as f64;
    outcome.database_trips_per_order = (after.database - before.database) as f64 / orders;
    outcome.redis_trips_per_order = (after.redis - before.redis) as f64 / orders;

    match scenario {
        Scenario::DoubleClick => click_again(&mut seller, &lab, &plan, &mut outcome).await?,
        // Cut short, a load says nothing about what is left.
        Scenario::Load if outcome.clicks < plan.buyers => {}
        Scenario::Load | Scenario::Steady => {
            outcome.undersold = (outcome.stock - outcome.sold).max(0);
        }
        _ => send_late_buyers(&mut seller, &lab, &plan, &mut outcome).await?,
    }
    outcome.verdict = verdict(&outcome);
    drop(seller);
    lab.database.close().await;
    Ok(outcome)
}

/// The same user once more, when the first clicks have been answered.
async fn click_again<S: Strategy>(
    seller: &mut Seller<S>,
    lab: &Lab,
    plan: &Plan,
    outcome: &mut Outcome,
) -> Result<()> {
    let buyer = Buyer {
        user_id: 0,
        click: outcome.clicks,
    };
    buy(&*seller.rung, buyer, plan.patience).await?;
    settle(seller).await?;
    outcome.clicks += 1;
    outcome.sold = lab.sold().await?;
    outcome.duplicates = lab.duplicates().await?;
    Ok(())
}

/// One after the other until all is sold, or nobody gets in any more.
async fn send_late_buyers<S: Strategy>(
    seller: &mut Seller<S>,
    lab: &Lab,
    plan: &Plan,
    outcome: &mut Outcome,
) -> Result<()> {
    outcome.undersold = (outcome.stock - outcome.sold).max(0);
    let mut left = outcome.undersold;
    let first = plan.buyers;
    let late = usize::try_from(outcome.undersold * LATE_BUYERS_PER_UNIT)?;
    for click in first..first + late {
        if left == 0 {
            break;
        }
        let buyer = Buyer {
            user_id: i64::try_from(click)?,
            click,
        };
        match buy(&*seller.rung, buyer, plan.patience).await {
            Ok(Answer::Bought) => {
                settle(seller).await?;
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
    } else if outcome.unkept > 0 {
        Verdict::LosesOrders
    } else if outcome.duplicates > 0 {
        Verdict::Duplicates
    } else if had(&Failure::Deadlock) && outcome.scenario != Scenario::DoubleClick {
        Verdict::Deadlocks
    } else if outcome.lost > 0 && (had(&Failure::LockTimeout) || had(&Failure::NoAnswer)) {
        Verdict::Blocks
    } else if outcome.lost > 0 {
        Verdict::LosesUnits
    } else if outcome.undersold > 0 {
        Verdict::Strands
    } else {
        Verdict::Safe
    }
}

async fn settle<S: Strategy>(seller: &mut Seller<S>) -> Result<()> {
    timeout(SETTLE_TIMEOUT, seller.settle())
        .await
        .context("what was promised did not become rows in time")?
}
