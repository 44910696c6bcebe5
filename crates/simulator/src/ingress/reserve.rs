//! Places an order: takes stock in Redis and appends the event to the log
//! (`services/ingress/src/orders/reservations/{call,shrink,promise,acks}.rs`).

use seckill_domain::{KeyHash, OrderId, UserId};
use seckill_stock::{Attempt, PendingEvent, ReserveOutcome, ReserveRequest, ShrinkReply};

use super::sold_out;
use crate::redis::{CallError, ReserveReply, Script};
use crate::scene;
use crate::sim::Sim;
use crate::task::{pause, pause_for};
use crate::world::{Mode, PROMISE_TICKS};

/// A buyer's request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    pub(crate) user_id: UserId,
    pub(crate) quantity: u32,
    pub(crate) key_hash: Option<KeyHash>,
}

pub(crate) async fn place(sim: Sim, me: usize, order: Order) {
    if sold_out::refuses(&sim, me, order.user_id) {
        return;
    }
    let ask = {
        let mut world = sim.world();
        ReserveRequest {
            order_id: OrderId::from_parts(scene::voucher(), 1, world.new_id()),
            event_id: world.new_event_id(),
            user_id: order.user_id,
            quantity: order.quantity,
            key_hash: order.key_hash,
            traceparent: None,
            sale_token: None,
        }
    };
    let (order_id, user_id) = (ask.order_id, ask.user_id);
    let acks = std::mem::take(&mut sim.world().processes[me].acks);
    let crowd = sim.world().mode == Mode::Crowd;
    let sent_at = sim.clock(me);
    let script = move |attempt| {
        let (ask, acks) = (ask.clone(), acks.clone());
        move |script: &mut Script<'_>| {
            let reply = script.reserve(&ask, attempt, &acks)?;
            let lease = crowd.then(|| script.lease_on_sold_out()).flatten();
            Ok((reply, lease, script.load()))
        }
    };
    let mut reply = ask_again(&sim, me, sent_at, &script).await;
    if sim.world().mode == Mode::Late && sim.world().chance(0.1) {
        // The answer was lost, and the process was stopped before it asked again.
        pause_for(sim.some_steps(0..400)).await;
        // A known limitation (docs/recovery.md): an order that was called unknown meanwhile may be granted now.
        if sim.world().said.unknown.contains(&order_id) {
            return;
        }
        let stock = sim.world().processes[me].stock.clone();
        reply = stock.call(&sim, script(Attempt::Again)).await;
    }
    let promised_from = if sim.world().guards.deadline_from_send {
        sent_at
    } else {
        sim.clock(me)
    };
    sim.world().trace(|| format!("{order_id}: {reply:?}"));
    let Ok((ReserveReply::Decided(outcome), lease, load)) = reply else {
        return;
    };
    if let Some(lease) = lease {
        sold_out::learn(&sim, me, lease, sent_at);
    }
    if let (ReserveOutcome::Granted(_), Some(load)) = (&outcome, load) {
        sim.world().said.holders.insert((load, user_id));
    }
    answer(&sim, me, user_id, outcome, promised_from).await;
}

/// Publishes what was granted, and answers the buyer.
async fn answer(sim: &Sim, me: usize, user_id: UserId, outcome: ReserveOutcome, sent_at: u64) {
    match outcome {
        ReserveOutcome::Granted(granted) => {
            let order_id = granted.order_id;
            sim.world().said.told.insert(order_id, user_id);
            if publish(sim, me, &PendingEvent::Reservation(granted)).await {
                let in_time = sim.clock(me) - sent_at <= PROMISE_TICKS;
                if in_time || !sim.world().guards.promise_deadline {
                    promise(sim, order_id);
                }
            }
        }
        ReserveOutcome::Repeated {
            order_id,
            settled,
            released,
            ..
        } => {
            let mut world = sim.world();
            world.said.told.insert(order_id, user_id);
            let also_held = !world.guards.retry_promises_only_settled;
            let reserved = settled || (also_held && !released);
            drop(world);
            if reserved {
                promise(sim, order_id);
            }
        }
        ReserveOutcome::Superseded | ReserveOutcome::Refused(_) => {}
    }
}

fn promise(sim: &Sim, order_id: OrderId) {
    let mut world = sim.world();
    world.trace(|| format!("PROMISED {order_id}"));
    world.said.promised.insert(order_id);
}

pub(crate) async fn shrink(sim: Sim, me: usize, units: i64) {
    let event_id = sim.world().new_event_id();
    let started_at = sim.clock(me);
    let ask = move |_| move |script: &mut Script<'_>| script.shrink(event_id, units);
    let mut reply = ask_again(&sim, me, started_at, ask).await;
    if matches!(sim.world().mode, Mode::Rough | Mode::Late) && sim.world().chance(0.3) {
        pause_for(sim.some_steps(0..40)).await;
        reply = ask_again(&sim, me, sim.clock(me), ask).await;
    }
    if let Ok(ShrinkReply::Taken(taken)) = reply {
        publish(&sim, me, &PendingEvent::Shrink(taken)).await;
    }
}

/// Asks again until there is an answer or the promise deadline is over, always with the same ids.
async fn ask_again<R, F>(
    sim: &Sim,
    me: usize,
    first_sent_at: u64,
    mut script: impl FnMut(Attempt) -> F,
) -> Result<R, CallError>
where
    R: 'static,
    F: FnOnce(&mut Script<'_>) -> Result<R, CallError> + 'static,
{
    let stock = sim.world().processes[me].stock.clone();
    let mut attempt = Attempt::First;
    loop {
        let answer = stock.call(sim, script(attempt)).await;
        if answer.is_ok() || sim.clock(me) - first_sent_at >= PROMISE_TICKS {
            return answer;
        }
        attempt = Attempt::Again;
        pause().await;
    }
}

/// Publishes a pending event. Returns whether it was acknowledged; if so, its entry is removed some time later.
async fn publish(sim: &Sim, me: usize, pending: &PendingEvent) -> bool {
    let event = pending.to_event(scene::voucher());
    if !sim.produce(me, event).acknowledged().await {
        return false;
    }
    sim.world().processes[me].acks.push(pending.ack());
    if sim.world().chance(0.8) {
        sim.begin(me, flush(sim.clone(), me));
    }
    true
}

/// Sends the acks that no later reservation has sent along.
async fn flush(sim: Sim, me: usize) {
    pause_for(sim.some_steps(0..6)).await;
    let (acks, stock) = {
        let process = &mut sim.world().processes[me];
        (std::mem::take(&mut process.acks), process.stock.clone())
    };
    // The relay publishes again what is not cleared now.
    let _ = stock.call(&sim, move |script| script.clear(&acks)).await;
}
