//! The status of an order (`services/ingress/src/reads/orders.rs`).

use std::rc::Rc;

use seckill_domain::{OrderId, UserId};

use seckill_stock::HoldState;

use crate::redis::Probe;
use crate::sim::Sim;
use crate::task::pause;

/// Asks for the status. If the answer is that the order does not exist and never will, the answer is recorded, so that
/// the checks can compare it.
pub(crate) async fn ask_status(sim: Sim, me: usize, id: OrderId, user: UserId) {
    if sim.book().state.orders.contains_key(&id) {
        return;
    }
    let stock = sim.world().processes[me].reads_stock.clone();
    let Ok(probe) = stock
        .call(&sim, move |script| Ok(script.probe(Some(user))))
        .await
    else {
        return;
    };
    sim.world().trace(|| format!("{id} of {user}: {probe:?}"));
    let own = match &probe {
        Probe::Open { hold, .. } => hold.filter(|hold| hold.order_id == id),
        Probe::NotServed => None,
    };
    if own.is_some_and(|hold| hold.state == HoldState::Held) {
        return;
    }
    pause().await;
    // Read in one snapshot. If the database were restored between two reads, the position would be of the database
    // before, and the rows of the restored one.
    let mut ledger = sim.book();
    pause().await;
    let rows = sim.book();
    if sim.world().guards.status_from_one_snapshot {
        ledger = Rc::clone(&rows);
    }
    if rows.state.orders.contains_key(&id) {
        return;
    }
    let retired = rows.retired;
    let guarded = sim.world().guards.status_needs_position;
    let unknown = match probe {
        _ if own.is_some() => false,
        Probe::NotServed => retired || ledger.state.sale.is_none(),
        Probe::Open {
            epoch, position, ..
        } => !guarded || (ledger.epoch() == Some(epoch) && ledger.folded >= position),
    };
    if let Probe::Open { epoch, .. } = probe
        && unknown
        && sim.world().guards.status_from_granting_master
    {
        // A master that was cut off goes on answering reads, and the next call may reach the new master.
        let one_epoch = sim.world().guards.status_from_one_epoch;
        let granting = stock.call(&sim, |script| script.epoch_that_takes_writes());
        match granting.await {
            Ok(Some(granting)) if granting == epoch || !one_epoch => {}
            _ => return,
        }
    }
    if unknown {
        let mut world = sim.world();
        world.trace(|| format!("{id} is called unknown"));
        world.said.unknown.insert(id);
    }
}
