//! Reads the fold's decisions from the rows, settles them in Redis and publishes the outcomes
//! (`services/projector/src/effects.rs`).

use seckill_domain::{Effect, Offset, StockOp};

use crate::book::Book;
use seckill_stock::SettleReply;

use crate::redis::{CallError, Probe, Script};
use crate::sim::Sim;
use crate::task::{pause, pause_for};
use std::rc::Rc;

/// Effects read at a time.
const PAGE: usize = 3;
/// Decisions in one script call.
const SETTLE_MAX: usize = 2;

struct EffectsWorker {
    sim: Sim,
    me: usize,
    position: Offset,
    /// Where this worker's last settle ended.
    chain: Option<Offset>,
}

enum Settled {
    Done,
    NotServed,
    Gap,
}

struct EffectsPage {
    effects: Vec<Effect>,
    to: Offset,
}

impl EffectsPage {
    fn read(book: &Book, from: Offset, to: Option<Offset>) -> Self {
        let to = to.map_or(book.folded, |to| to.min(book.folded)).max(from);
        let mut effects = book.effects_between(from, to);
        let to = effects.get(PAGE).map_or(to, |effect| effect.offset);
        effects.truncate(PAGE);
        Self { effects, to }
    }

    fn ops(&self) -> Vec<(Offset, StockOp)> {
        let op = |effect: &Effect| Some((effect.offset, effect.stock.clone()?));
        self.effects.iter().filter_map(op).collect()
    }
}

pub(crate) async fn run(sim: Sim, me: usize) {
    let book = sim.book();
    let from_own = sim.world().guards.effects_position;
    let position = if from_own { book.effects } else { book.folded };
    drop(book);
    let mut worker = EffectsWorker {
        sim,
        me,
        position,
        chain: None,
    };
    loop {
        worker.carry_out().await;
        pause().await;
        // After a restore, effects that the database does not know of are carried out again.
        worker.position = worker.position.min(worker.sim.book().effects);
        let seen = worker.sim.world().processes[me].seen.pop_front();
        if let Some(position) = seen {
            worker.catch_up(position).await;
        }
    }
}

impl EffectsWorker {
    async fn carry_out(&mut self) {
        loop {
            pause().await;
            let page = EffectsPage::read(&self.sim.book(), self.position, None);
            if page.to <= self.position {
                return;
            }
            let ops = page.ops();
            if !ops.is_empty() {
                self.settle(&ops, page.to).await;
            }
            pause_for(self.sim.some_steps(0..3)).await;
            for effect in &page.effects {
                self.sim.world().said.outcomes.insert(effect.offset);
            }
            pause_for(self.sim.some_steps(0..3)).await;
            Rc::make_mut(&mut self.sim.world().book).move_effects(page.to);
            self.position = page.to;
        }
    }

    async fn settle(&mut self, ops: &[(Offset, StockOp)], to: Offset) {
        let Some(from) = self.chain else {
            return self.settle_from_rows(to).await;
        };
        if from >= to {
            return;
        }
        let ops = &ops[ops.partition_point(|(offset, _)| *offset < from)..];
        if let Settled::Gap = self.settle_in_chunks(from, ops, to).await {
            self.settle_from_rows(to).await;
        }
    }

    /// Asks Redis for the sale's position, and settles from there.
    async fn settle_from_rows(&mut self, to: Offset) {
        loop {
            let Probe::Open { position, .. } = self.until_done(|| |s| Ok(s.probe(None))).await
            else {
                self.chain = None;
                return;
            };
            if position >= to {
                self.chain = Some(position);
                return;
            }
            pause().await;
            let page = EffectsPage::read(&self.sim.book(), position, Some(to));
            if page.to <= position {
                // Redis has not settled everything, so the next page may not follow directly on the sale's position.
                self.chain = None;
                return;
            }
            let ops = page.ops();
            if let Settled::NotServed = self.settle_in_chunks(position, &ops, page.to).await {
                return;
            }
        }
    }

    async fn settle_in_chunks(
        &mut self,
        mut from: Offset,
        ops: &[(Offset, StockOp)],
        to: Offset,
    ) -> Settled {
        pause().await;
        let Some(epoch) = self.sim.book().epoch() else {
            return Settled::NotServed;
        };
        let chunks = ops.chunks(SETTLE_MAX).chain(ops.is_empty().then_some(ops));
        let mut left = ops.len();
        for chunk in chunks {
            left -= chunk.len();
            let end = match chunk.last() {
                Some((offset, _)) if left > 0 => offset.next(),
                _ => to,
            };
            let reply = self
                .until_done(|| {
                    let ops = chunk.to_vec();
                    move |script| script.settle(epoch, from, end, &ops)
                })
                .await;
            {
                let world = self.sim.world();
                let (name, from, end) = (&world.processes[self.me].name, from.get(), end.get());
                world.trace(|| format!("{name} settles {from}..{end} {chunk:?}: {reply:?}"));
            }
            match reply {
                SettleReply::Settled { position } => {
                    self.chain = Some(position);
                    from = end;
                }
                SettleReply::Gap { .. } => {
                    self.chain = None;
                    return Settled::Gap;
                }
                SettleReply::NotServed => {
                    self.chain = None;
                    return Settled::NotServed;
                }
            }
        }
        Settled::Done
    }

    /// Called when the sale is open at `position`.
    async fn catch_up(&mut self, position: Offset) {
        let guarded = self.sim.world().guards.catch_up;
        if !guarded || self.chain.is_some_and(|chain| position >= chain) {
            return;
        }
        self.settle_from_rows(self.position).await;
    }

    async fn until_done<R, F>(&self, mut script: impl FnMut() -> F) -> R
    where
        R: 'static,
        F: FnOnce(&mut Script<'_>) -> Result<R, CallError> + 'static,
    {
        let stock = self.sim.world().processes[self.me].stock.clone();
        loop {
            if let Ok(answer) = stock.call(&self.sim, script()).await {
                return answer;
            }
            pause().await;
        }
    }
}
