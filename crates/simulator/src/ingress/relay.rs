//! Publishes again what was never acknowledged (`services/ingress/src/orders/reservations/relay.rs`).

use crate::redis::CallError;
use crate::scene;
use crate::sim::Sim;
use crate::task::pause_for;

pub(crate) async fn run(sim: Sim, me: usize) {
    loop {
        let steps = {
            let mut world = sim.world();
            let range = world.tuning.relay_pause.clone();
            if world.quiet { 3 } else { world.between(range) }
        };
        pause_for(steps).await;
        // The next round tries again.
        let _ = round(&sim, me).await;
    }
}

async fn round(sim: &Sim, me: usize) -> Result<(), CallError> {
    let (stock, older_than) = {
        let world = sim.world();
        let stock = world.processes[me].relay_stock.clone();
        (stock, world.tuning.relay_age)
    };
    let page = stock.call(sim, move |script| Ok(script.outbox(older_than)));
    let Ok((_, entries)) = page.await? else {
        return Ok(());
    };
    let mut sent = Vec::new();
    for pending in entries {
        let event = pending.to_event(scene::voucher());
        sent.push((pending.ack(), sim.produce(me, event)));
    }
    let mut acks = Vec::new();
    for (ack, delivery) in sent {
        if delivery.acknowledged().await {
            acks.push(ack);
        }
    }
    stock.call(sim, move |script| script.clear(&acks)).await
}
