//! Refuses buyers of a sold-out sale without asking Redis (`services/ingress/src/orders/reservations/sold_out.rs`).

use seckill_domain::UserId;

use crate::redis::{HoldersVersion, SoldOutLease};
use crate::sim::Sim;

/// Whether a buyer is refused. It must not be one who was told of an order.
pub(crate) fn refuses(sim: &Sim, me: usize, user: UserId) -> bool {
    let now = sim.clock(me);
    let mut world = sim.world();
    let remembered = &world.processes[me].sold_out;
    let (Some((until, version)), Some((_, holders))) = (&remembered.lease, &remembered.holders)
    else {
        return false;
    };
    if now >= *until || holders.contains(&user) {
        return false;
    }
    let load = version.load;
    world.said.refused_from_memory += 1;
    world.trace(|| format!("{user} is refused from memory"));
    if world.said.holders.contains(&(load, user)) {
        world.fail("a buyer who was told of an order is told that it is sold out");
    }
    true
}

/// Notes the lease that came with the answer to a call that was sent at `sent`.
pub(crate) fn learn(sim: &Sim, me: usize, lease: SoldOutLease, sent: u64) {
    let now = sim.clock(me);
    let mut world = sim.world();
    let guards = world.guards;
    let from = if guards.lease_from_send { sent } else { now };
    let remembered = &mut world.processes[me].sold_out;
    let known = remembered.holders.as_ref().map(|(version, _)| *version);
    let current = known == Some(lease.holders);
    if current || (known.is_some() && !guards.lease_for_known_holders) {
        remembered.lease = Some((from + lease.ticks, lease.holders));
    }
    drop(world);
    if !current {
        sim.begin(me, read_holders(sim.clone(), me, lease.holders));
    }
}

/// Reads who has ordered: all buyers of `version`, and perhaps some who came later. The call may reach another server
/// than the one that gave the lease.
async fn read_holders(sim: Sim, me: usize, version: HoldersVersion) {
    let stock = sim.world().processes[me].relay_stock.clone();
    let read = stock.call(&sim, |script| Ok(script.holders())).await;
    // After a call without an answer, the next lease has the holders read again.
    let one_load = sim.world().guards.holders_of_same_load;
    if let Ok(Some((load, holders))) = read
        && (load == version.load || !one_load)
    {
        let remembered = &mut sim.world().processes[me].sold_out;
        remembered.holders = Some((version, holders));
        remembered.lease = None;
    }
}
