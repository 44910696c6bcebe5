//! An ingress process (`services/ingress/src`).

mod relay;
mod reserve;
mod sold_out;
mod status;

use crate::sim::Sim;
use crate::task::Owner;

pub(crate) use reserve::{Order, place, shrink};
pub(crate) use status::ask_status;

/// Starts the tasks that always run.
pub(crate) fn start(sim: &Sim, me: usize) {
    let owner = Owner {
        process: me,
        assignment: None,
        transient: false,
    };
    sim.spawn(owner, relay::run(sim.clone(), me));
}
