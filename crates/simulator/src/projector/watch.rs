//! Checks the sale regularly (`services/projector/src/watch.rs`).

use std::rc::Rc;

use seckill_domain::{Epoch, Offset};

use super::reload;
use crate::redis::{CallError, Probe};
use crate::sim::Sim;
use crate::task::{Owner, pause, pause_for};

pub(crate) async fn run(sim: Sim, me: usize) {
    loop {
        pause_for(1 + sim.some_steps(0..6)).await;
        if sim.world().processes[me].assignment.is_some() {
            // The next check tries again.
            let _ = look(&sim, me).await;
        }
    }
}

async fn look(sim: &Sim, me: usize) -> Result<(), CallError> {
    let book = sim.book();
    let (Some(epoch), false) = (book.epoch(), book.retired) else {
        return Ok(());
    };
    let stock = sim.world().processes[me].stock.clone();
    let connection = stock.connection(sim).await?;
    pause().await;
    if !connection.fence_still_holds(sim) {
        return Err(CallError::Broken);
    }
    let probe = stock.call(sim, |script| Ok(script.probe(None))).await?;
    let any_probe = !sim.world().guards.retire_only_served;
    match probe {
        _ if book.is_over() && any_probe => retire(sim, me, &probe).await,
        Probe::Open {
            epoch: served,
            position,
            ..
        } if served >= epoch => {
            tell(sim, me, position);
            if book.is_over() && book.folded >= position {
                retire(sim, me, &probe).await?;
            }
            Ok(())
        }
        Probe::Open { .. } | Probe::NotServed => {
            load(sim, me, book.loaded);
            Ok(())
        }
    }
}

fn tell(sim: &Sim, me: usize, position: Offset) {
    let process = &mut sim.world().processes[me];
    if process.assignment.is_some() && process.seen.len() < 8 {
        process.seen.push_back(position);
    }
}

fn load(sim: &Sim, me: usize, loaded: bool) {
    let assignment = {
        let process = &mut sim.world().processes[me];
        if process.assignment.is_none() || process.loading {
            return;
        }
        process.loading = true;
        process.assignment
    };
    let owner = Owner {
        process: me,
        assignment,
        transient: true,
    };
    let task = sim.clone();
    sim.spawn(owner, async move {
        // If it failed or another load has overtaken it, the next check starts again.
        let _ = reload::run(&task, me, loaded).await;
        task.world().processes[me].loading = false;
    });
}

/// Removes the sale from Redis, and then marks it as retired in PostgreSQL.
async fn retire(sim: &Sim, me: usize, probe: &Probe) -> Result<(), CallError> {
    let epoch = sim.book().epoch().unwrap_or(Epoch::FIRST);
    let mut had = (epoch, Offset::new(0));
    if let Probe::Open {
        epoch, position, ..
    } = probe
    {
        let position = *position;
        let stock = sim.world().processes[me].stock.clone();
        let Some(left) = stock.call(sim, move |s| s.retire(position)).await? else {
            return Ok(());
        };
        had = (*epoch, left);
    }
    pause().await;
    mark_retired(sim, had.0, had.1);
    Ok(())
}

/// One statement that has an effect only if PostgreSQL has this epoch of the sale and all decisions that Redis knew.
pub(super) fn mark_retired(sim: &Sim, epoch: Epoch, position: Offset) {
    let mut world = sim.world();
    let covers = world.book.epoch() == Some(epoch) && world.book.folded >= position;
    if world.book.is_over() && (covers || !world.guards.retire_only_served) {
        world.trace(|| "retired".to_owned());
        Rc::make_mut(&mut world.book).retired = true;
    }
}
