//! Runs one history: first with faults, then without faults until everything has come to rest.

use crate::faults::Fault;
use crate::guards::Guards;
use crate::sim::Sim;
use crate::traffic::{self, Wish};
use crate::world::{Mode, SimulatedWorld, Violation};
use crate::{checks, ingress, projector, scene, task};

const FAULTY_TICKS: usize = 5_000;
const QUIET_TICKS: usize = 30_000;
/// No new requests are made while more than this many are under way.
const MOST_TASKS: usize = 20;

/// The result of a history in which no rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Orders that buyers were promised.
    pub promised: usize,
    /// Times the sale was loaded into Redis.
    pub loads: u64,
    /// Buyers who were refused without asking Redis.
    pub refused_from_memory: u64,
}

/// Runs the history of one seed.
///
/// # Errors
/// The first rule that was broken.
pub fn simulate(seed: u64, mode: Mode, guards: Guards) -> Result<Report, Violation> {
    run(SimulatedWorld::new(seed, mode, guards, false))
}

/// The same, with every step of interest printed.
///
/// # Errors
/// The first rule that was broken.
pub fn trace(seed: u64, mode: Mode, guards: Guards) -> Result<Report, Violation> {
    run(SimulatedWorld::new(seed, mode, guards, true))
}

fn run(world: SimulatedWorld) -> Result<Report, Violation> {
    let sim = Sim::new(world);
    let outcome = history(&sim);
    // The tasks refer to the world and the world to the tasks. Without this, neither would be freed.
    let tasks = std::mem::take(&mut sim.world().tasks);
    drop(tasks);
    outcome
}

fn history(sim: &Sim) -> Result<Report, Violation> {
    start(sim);
    time_of_faults(sim)?;
    peace(sim)?;
    sim.world().trace_rest();
    checks::of_rest(&mut sim.world());
    broken(sim)?;
    sell_out(sim)?;
    let said = &sim.world().said;
    Ok(Report {
        promised: said.promised.len(),
        loads: said.loads,
        refused_from_memory: said.refused_from_memory,
    })
}

fn start(sim: &Sim) {
    let (ingresses, projectors, timeout) = {
        let mut world = sim.world();
        let stock = 1 + i64::try_from(world.below(4)).unwrap_or(0);
        let event_id = world.new_event_id();
        world
            .log
            .push(scene::event(event_id, scene::scheduled(stock)));
        (world.ingresses, world.projectors(), world.timeout())
    };
    for me in 0..ingresses {
        ingress::start(sim, me);
    }
    for me in projectors {
        projector::start(sim, me);
    }
    projector::assign(sim, projectors[0]);
    let owner = task::Owner {
        process: timeout,
        assignment: None,
        transient: false,
    };
    sim.spawn(owner, traffic::expire(sim.clone(), timeout));
}

fn broken(sim: &Sim) -> Result<(), Violation> {
    sim.world().violation.take().map_or(Ok(()), Err)
}

fn time_of_faults(sim: &Sim) -> Result<(), Violation> {
    let (faults, wishes, fault_rate, demand) = {
        let mut world = sim.world();
        let faults = Fault::some(&mut world);
        let wishes = Wish::some(&mut world);
        let fault_rate = match world.mode {
            Mode::Rough | Mode::Late => world.choose(&[0.008, 0.02]),
            Mode::Single | Mode::Torn | Mode::Crowd | Mode::Pair | Mode::Sentinel => {
                world.choose(&[0.002, 0.004, 0.008, 0.014])
            }
        };
        let demand = world.choose(&[0.03, 0.06, 0.1]);
        (
            faults,
            wishes,
            fault_rate.unwrap_or(0.0),
            demand.unwrap_or(0.0),
        )
    };
    for tick in 0..FAULTY_TICKS {
        sim.tick();
        sim.revoke_due();
        broken(sim)?;
        let luck = f64::from(u32::try_from(sim.world().below(1 << 20)).unwrap_or(0)) / 1_048_576.0;
        if luck < fault_rate && tick > 60 {
            let fault = sim.world().choose(&faults);
            if let Some(fault) = fault {
                sim.suffer(fault);
            }
        } else if luck < fault_rate + demand && sim.world().tasks.len() < MOST_TASKS {
            sim.ask(&wishes);
        }
    }
    Ok(())
}

fn peace(sim: &Sim) -> Result<(), Violation> {
    {
        let mut world = sim.world();
        world.trace(|| "PEACE".to_owned());
        world.quiet = true;
        for process in &mut world.processes {
            process.stopped_until = 0;
        }
        for node in &mut world.nodes {
            node.stopped_until = 0;
        }
        world.demote_older();
        world.relink();
        world.third_follows_newest();
    }
    come_to_rest(sim)
}

/// Sends more buyers than there are units left, and checks that all units are sold.
fn sell_out(sim: &Sim) -> Result<(), Violation> {
    if sim.world().mode == Mode::Crowd {
        // Units that have come back are on sale when the last lease is over.
        for _ in 0..scene::LEASE_TICKS {
            sim.tick();
        }
    }
    sim.demand_all();
    come_to_rest(sim)?;
    checks::of_sell_out(&mut sim.world());
    broken(sim)
}

fn come_to_rest(sim: &Sim) -> Result<(), Violation> {
    for tick in 0..QUIET_TICKS {
        sim.tick();
        sim.revoke_due();
        broken(sim)?;
        if tick % 20 == 19 && checks::at_rest(&sim.world()) {
            return Ok(());
        }
    }
    sim.world().trace_rest();
    Err(Violation("it does not come to rest".to_owned()))
}
