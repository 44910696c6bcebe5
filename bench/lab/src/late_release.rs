//! A lease that ends between its holder's work and its release of the lock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};

use crate::crowd::{Crowd, buy};
use crate::failure::Failure;
use crate::fault::Seller;
use crate::lab::Lab;
use crate::plan::Plan;
use crate::scenario::Scenario;
use crate::strategy::{Answer, Buyer, Strategy};

/// Nobody waits so long: each step is waited for by what makes it certain.
const STEPS_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);
/// Those whose steps are ordered.
const ORDERED: usize = 3;

/// The first buyer has worked, and stands before its release; its lease ends, and the second gets in. Now the first one
/// releases the lock, and a third one comes: it is refused at least once, or is inside beside the second.
///
/// # Errors
/// When a store does not answer, or a step does not come to pass.
pub(crate) async fn release_late<S: Strategy>(
    lab: &Arc<Lab>,
    plan: &Plan,
) -> Result<(Seller<S>, Crowd)> {
    let seller = Seller::<S>::open(lab).await?;
    let told = timeout(STEPS_TIMEOUT, step_by_step(&seller.rung, lab, plan)).await;
    let told = told.context("the steps of a late release do not come to pass")??;
    let others = ORDERED..plan.buyers;
    let mut crowd = Crowd::send(&seller.rung, Scenario::LateRelease, plan, others).await?;
    for answer in told {
        crowd.add(answer.map_err(|failure| failure.to_string()));
    }
    Ok((seller, crowd))
}

async fn step_by_step<S: Strategy>(
    rung: &Arc<S>,
    lab: &Lab,
    plan: &Plan,
) -> Result<[Result<Answer, Failure>; ORDERED]> {
    let click = |click: usize| {
        let (rung, patience) = (Arc::clone(rung), plan.patience);
        let user_id = i64::try_from(click).unwrap_or(0);
        tokio::spawn(async move { buy(&*rung, Buyer { user_id, click }, patience).await })
    };
    let first = click(0);
    lab.exit.arrived(1).await;
    lab.expire_leases().await?;

    let second = click(1);
    lab.gate.arrived(2).await;
    lab.exit.let_go();
    let first = first.await?;

    let before = lab.cache.refused.count();
    let third = click(2);
    let is_refused = async {
        while lab.cache.refused.count() == before {
            sleep(POLL).await;
        }
    };
    tokio::select! {
        () = lab.gate.arrived(3) => {}
        () = is_refused => {}
    }
    lab.gate.let_go();
    Ok([first, second.await?, third.await?])
}
