//! What strikes a sale while one buyer is at its critical point.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{sleep, timeout};
use tokio::try_join;
use tokio_util::task::AbortOnDropHandle;

use crate::crowd::{Crowd, buy};
use crate::failure::Failure;
use crate::lab::{Lab, LabWorld};
use crate::pipeline::Pipeline;
use crate::plan::{Fault, Plan};
use crate::scenario::Scenario;
use crate::strategy::{Answer, Buyer, Strategy};
use crate::worker::{Job, LabWorker};

const DIED: &str = "died";
/// Nobody waits so long: what the first buyer waits for has its own end.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const FIRST: Buyer = Buyer {
    user_id: 0,
    click: 0,
};

/// A rung that sells, with what goes on beside it.
#[derive(Debug)]
pub(crate) struct Seller<S> {
    pub(crate) rung: Arc<S>,
    work: AbortOnDropHandle<Failure>,
}

impl<S: Strategy> Seller<S> {
    pub(crate) async fn open(lab: &Arc<Lab>) -> Result<Self> {
        let rung = Arc::new(S::open(Arc::clone(lab)).await?);
        let worked = Arc::clone(&rung);
        let work = AbortOnDropHandle::new(tokio::spawn(async move { worked.work().await }));
        Ok(Self { rung, work })
    }

    /// Waits until every order that was promised is a row.
    ///
    /// # Errors
    /// When a store refuses, or what goes on beside the buyers has ended.
    pub(crate) async fn settle(&mut self) -> Result<()> {
        tokio::select! {
            settled = self.rung.settle() => Ok(settled?),
            ended = &mut self.work => Err(ended?).context("what goes on beside the buyers has ended"),
        }
    }
}

/// The first buyer is in a process of its own and comes to the gate; then the fault strikes, and all others come.
///
/// # Errors
/// When that cannot be done; what goes wrong for a buyer is part of what the crowd was told.
pub(crate) async fn strike<S: Strategy>(
    world: &LabWorld,
    lab: &Arc<Lab>,
    scenario: Scenario,
    plan: &Plan,
    fault: Fault,
) -> Result<(Seller<S>, Crowd)> {
    lab.snapshot_redis()?;
    let job = Job {
        rung: S::CARD.name.to_owned(),
        site: lab.site.clone(),
    };
    if fault == Fault::SecondProcess {
        return click_in_two_processes(world, lab, scenario, plan, &job).await;
    }
    let worker = LabWorker::start(&world.program, &job).await?;
    match fault {
        Fault::Pause => worker.stop()?,
        Fault::Restart => lab.restart_redis().await?,
        Fault::ClockStep => lab.expire_leases().await?,
        Fault::Death | Fault::SlowWork | Fault::SecondProcess => {}
    }
    // Only now, so that what goes on beside the buyers has not seen the first one's order.
    let seller = Seller::<S>::open(lab).await?;
    let others = Crowd::send(&seller.rung, scenario, plan, 1..plan.buyers);
    let first = end(worker, plan, fault);
    let (sent, told) = match fault {
        Fault::Pause | Fault::Death if S::ONE_PROCESS => {
            let told = first.await?;
            (others.await, told)
        }
        Fault::Pause | Fault::Death | Fault::SlowWork => {
            let (sent, told) = tokio::join!(others, first);
            (sent, told?)
        }
        _ => (others.await, first.await?),
    };
    let mut crowd = sent?;
    crowd.add(told);
    Ok((seller, crowd))
}

/// The first buyer is in two processes, and both come to the gate; then all others come.
async fn click_in_two_processes<S: Strategy>(
    world: &LabWorld,
    lab: &Arc<Lab>,
    scenario: Scenario,
    plan: &Plan,
    job: &Job,
) -> Result<(Seller<S>, Crowd)> {
    let clicks = try_join!(
        LabWorker::start(&world.program, job),
        LabWorker::start(&world.program, job)
    )?;
    let told = try_join!(
        end(clicks.0, plan, Fault::SecondProcess),
        end(clicks.1, plan, Fault::SecondProcess)
    )?;
    let seller = Seller::<S>::open(lab).await?;
    let mut crowd = Crowd::send(&seller.rung, scenario, plan, 1..plan.buyers).await?;
    crowd.add(told.0);
    crowd.add(told.1);
    Ok((seller, crowd))
}

/// What becomes of the first buyer: how it was answered.
async fn end(mut worker: LabWorker, plan: &Plan, fault: Fault) -> Result<Result<Answer, String>> {
    match fault {
        Fault::Death => {
            sleep(plan.pause).await;
            worker.kill().await?;
            return Ok(Err(DIED.to_owned()));
        }
        Fault::Pause => {
            sleep(plan.pause).await;
            worker.let_go().await?;
            worker.resume()?;
        }
        Fault::SlowWork => {
            sleep(plan.pause).await;
            worker.let_go().await?;
        }
        Fault::Restart | Fault::ClockStep | Fault::SecondProcess => worker.let_go().await?,
    }
    timeout(ANSWER_TIMEOUT, worker.answer())
        .await
        .context("the first buyer's process gives no answer")?
}

/// The same for the project's services, where the buyers are elsewhere: what strikes, strikes the services.
///
/// # Errors
/// As [`strike`].
pub(crate) async fn strike_services<S: Strategy>(
    pipeline: &Pipeline,
    lab: &Arc<Lab>,
    scenario: Scenario,
    plan: &Plan,
    fault: Fault,
) -> Result<(Seller<S>, Crowd)> {
    pipeline.snapshot_redis()?;
    let seller = Seller::<S>::open(lab).await?;
    let mut crowd;
    if fault == Fault::Restart {
        let told: Result<Answer, Failure> = buy(&*seller.rung, FIRST, plan.patience).await;
        pipeline.restart_redis()?;
        crowd = Crowd::send(&seller.rung, scenario, plan, 1..plan.buyers).await?;
        crowd.add(told.map_err(|failure| failure.to_string()));
    } else {
        let strikes = async {
            lab.gate.arrived(1).await;
            match fault {
                Fault::Pause => pipeline.pause_ingress(plan.pause).await,
                _ => pipeline.kill_ingress(),
            }
        };
        let everybody = Crowd::send(&seller.rung, scenario, plan, 0..plan.buyers);
        let (sent, struck) = tokio::join!(everybody, strikes);
        struck?;
        crowd = sent?;
    }
    Ok((seller, crowd))
}
