//! A projector process (`services/projector/src`).

mod effects;
mod fold;
mod reload;
mod watch;

use crate::sim::Sim;
use crate::task::Owner;

/// Starts the tasks that always run.
pub(crate) fn start(sim: &Sim, me: usize) {
    let owner = Owner {
        process: me,
        assignment: None,
        transient: false,
    };
    sim.spawn(owner, watch::run(sim.clone(), me));
}

/// Gives the partition to a projector and starts its two workers.
pub(crate) fn assign(sim: &Sim, me: usize) {
    let owner = {
        let mut world = sim.world();
        world.end_assignment(me);
        let assignment = world.new_id();
        world.processes[me].assignment = Some(assignment);
        world.trace(|| format!("{} has the partition", world.processes[me].name));
        Owner {
            process: me,
            assignment: Some(assignment),
            transient: false,
        }
    };
    sim.spawn(owner, fold::run(sim.clone(), me));
    sim.spawn(owner, effects::run(sim.clone(), me));
}
