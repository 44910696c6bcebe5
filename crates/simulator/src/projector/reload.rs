//! Claim, drain, a new epoch in the log, load, open (`services/projector/src/reload.rs`).

use std::rc::Rc;

use seckill_domain::{Epoch, EventBody, SaleReloaded};
use seckill_script_model::Sale;
use seckill_stock::{LoadHold, LoadShrink};
use uuid::Uuid;

use super::watch;
use crate::book::Book;
use crate::guards::Guards;
use crate::redis::{CallError, Claim, Connection, Loaded, Opened};
use crate::scene;
use crate::sim::Sim;
use crate::task::{pause, pause_for};
use crate::world::{CRON_TICKS, PROMISE_TICKS, REPLICA_LAG_TICKS};

const MARGIN_TICKS: u64 = 2;
const VERDICT_STEPS: u32 = 200;

/// Why a load ended early: it was overtaken, or something failed.
pub(crate) struct Ended;

impl From<CallError> for Ended {
    fn from(_: CallError) -> Self {
        Self
    }
}

pub(crate) async fn run(sim: &Sim, me: usize, loaded: bool) -> Result<(), Ended> {
    let guards = sim.world().guards;
    let stock = sim.world().processes[me].stock.clone();
    let redis = stock.connection(sim).await?;
    let nonce = sim.world().new_uuid();
    pause().await;
    let first = !loaded && mark_loaded(sim, guards.marked_before_load);
    pause().await;
    let mut epoch = sim.book().epoch().ok_or(Ended)?;
    pause_for(sim.some_steps(0..3)).await;
    if redis.call(sim, move |s| s.claim(nonce, epoch)).await? == Claim::Live {
        return Err(Ended);
    }
    trace(sim, me, &format!("claims under {epoch:?}, first {first}"));
    if !first {
        drain(sim, me).await;
        // If the master was cut off when it took the claim, it refuses writes by now. The sale may have been opened
        // on another server, and a new epoch would end that one.
        if guards.claim_renewed {
            done(redis.call(sim, move |s| s.renew(nonce)).await?)?;
        }
    }
    let mut begins = epoch;
    if !first || guards.first_load_begins_epoch {
        if !guards.epoch_read_before_claim {
            epoch = sim.book().epoch().ok_or(Ended)?;
            pause_for(sim.some_steps(0..3)).await;
        }
        begin_epoch(sim, me, epoch, nonce).await?;
        if !verdict(sim, nonce).await? && guards.reload_accepts_only_own {
            return Err(Ended);
        }
        begins = epoch.next();
    }
    load(sim, me, &redis, nonce, (epoch, begins)).await?;
    if first && !guards.marked_before_load {
        pause().await;
        Rc::make_mut(&mut sim.world().book).mark_loaded();
    }
    Ok(())
}

/// Whether this load is the first.
fn mark_loaded(sim: &Sim, now: bool) -> bool {
    let mut world = sim.world();
    if now {
        Rc::make_mut(&mut world.book).mark_loaded()
    } else {
        !world.book.loaded
    }
}

async fn drain(sim: &Sim, me: usize) {
    if !sim.world().guards.drain {
        return;
    }
    let started = sim.clock(me);
    let mut ticks = PROMISE_TICKS + MARGIN_TICKS;
    if sim.world().mode.has_replica() && sim.world().guards.drain_covers_replica_lag {
        ticks += REPLICA_LAG_TICKS + CRON_TICKS;
    }
    while sim.clock(me) - started < ticks {
        pause().await;
    }
}

async fn begin_epoch(sim: &Sim, me: usize, previous: Epoch, nonce: Uuid) -> Result<(), Ended> {
    let event_id = sim.world().new_event_id();
    for _ in 0..3 {
        let body = EventBody::SaleReloaded(SaleReloaded {
            previous,
            epoch: previous.next(),
            nonce,
            first: None,
        });
        let delivery = sim.produce(me, scene::event(event_id, body));
        if delivery.acknowledged().await {
            return Ok(());
        }
    }
    Err(Ended)
}

async fn verdict(sim: &Sim, nonce: Uuid) -> Result<bool, Ended> {
    for _ in 0..VERDICT_STEPS {
        pause().await;
        if let Some(accepted) = sim.book().state.reloads.get(&nonce) {
            return Ok(*accepted);
        }
    }
    Err(Ended)
}

/// Orders of which only the keys are needed, and decided shrinks.
fn memories(book: &Book, guards: &Guards) -> (Vec<LoadHold>, Vec<LoadShrink>) {
    let keys = guards.scripts.earlier_keys && guards.scripts.key_tombstones;
    let earlier = if keys { book.earlier() } else { Vec::new() };
    let shrinks = guards.decided_shrinks_loaded;
    let shrinks = if shrinks {
        book.decided_shrinks()
    } else {
        Vec::new()
    };
    let earlier = earlier.iter().map(|order| LoadHold::of(order, true));
    (earlier.collect(), shrinks)
}

async fn load(
    sim: &Sim,
    me: usize,
    redis: &Rc<Connection>,
    nonce: Uuid,
    (ends, begins): (Epoch, Epoch),
) -> Result<(), Ended> {
    pause().await;
    let guards = sim.world().guards;
    let mut snapshot = sim.book();
    if guards.load_own_epoch_only && snapshot.epoch() != Some(begins) {
        return Err(Ended);
    }
    if guards.retired_stays_out && snapshot.retired {
        return Err(Ended);
    }
    if snapshot.is_over() && guards.over_is_discarded {
        let old = redis.call(sim, move |s| Ok(s.old_outbox(nonce))).await?;
        let (_, pending) = old.ok_or(Ended)?;
        if pending
            .iter()
            .all(|pending| snapshot.knows(pending.ack().id))
        {
            done(redis.call(sim, move |s| s.discard(nonce, begins)).await?)?;
            pause().await;
            watch::mark_retired(sim, begins, snapshot.folded);
            return Ok(());
        }
    }
    let row = snapshot.state.sale.as_ref().ok_or(Ended)?;
    let sale = Sale::begin(row, snapshot.folded);
    done(redis.call(sim, move |s| s.load_begin(nonce, sale)).await?)?;
    let half = snapshot.holds().len() / 2;
    for later in [false, true] {
        if !guards.chunk_from_one_snapshot {
            pause_for(sim.some_steps(0..6)).await;
            snapshot = sim.book();
        }
        let mut chunk = snapshot.holds();
        let second = chunk.split_off(half.min(chunk.len()));
        let mut chunk = if later { second } else { chunk };
        chunk.retain(|order| order.status.is_live() || guards.scripts.key_tombstones);
        let mut holds: Vec<_> = chunk
            .iter()
            .map(|order| LoadHold::of(order, false))
            .collect();
        let mut shrinks = Vec::new();
        if later {
            let (earlier, decided) = memories(&snapshot, &guards);
            holds.extend(earlier);
            shrinks = decided;
        }
        let load = redis.call(sim, move |s| s.load_rows(nonce, &holds, &shrinks));
        done(load.await?)?;
    }
    let old = redis.call(sim, move |s| Ok(s.old_outbox(nonce))).await?;
    let (granted_in, mut pending) = old.ok_or(Ended)?;
    let ended = granted_in < ends && guards.regrant_current_epoch_only;
    pending.retain(|pending| !snapshot.knows(pending.ack().id) && !ended);
    done(redis.call(sim, move |s| s.regrant(nonce, &pending)).await?)?;
    pause_for(sim.some_steps(0..3)).await;
    if redis.call(sim, move |s| s.open(nonce)).await? == Opened::Lost {
        return Err(Ended);
    }
    trace(
        sim,
        me,
        &format!("opened at {:?} {:?}", snapshot.folded, snapshot.epoch()),
    );
    sim.world().said.loads += 1;
    Ok(())
}

fn done(loaded: Loaded) -> Result<(), Ended> {
    match loaded {
        Loaded::Done => Ok(()),
        Loaded::Lost => Err(Ended),
    }
}

fn trace(sim: &Sim, me: usize, what: &str) {
    let world = sim.world();
    world.trace(|| format!("{} {what}", world.processes[me].name));
}
