//! Reads records, and writes rows and the position (`services/projector/src/fold.rs`).

use std::rc::Rc;

use seckill_domain::Offset;

use crate::checks;
use crate::sim::Sim;
use crate::task::{pause, pause_for};
use crate::world::SimulatedWorld;

pub(crate) async fn run(sim: Sim, me: usize) {
    let mut position = sim.book().folded;
    loop {
        pause().await;
        let to = {
            let mut world = sim.world();
            let end = Offset::new(i64::try_from(world.log.len()).unwrap_or(i64::MAX));
            let batch = 1 + i64::try_from(world.below(5)).unwrap_or(0);
            Offset::new(position.get() + batch).min(end)
        };
        if to <= position && sim.book().folded < position {
            // No record comes, and the database was restored to an earlier position.
            super::assign(&sim, me);
            return;
        }
        while position < to {
            let Some(moved) = apply(&sim, position, to).await else {
                // The view is behind the records that were read, so they are read again from its position.
                super::assign(&sim, me);
                return;
            };
            position = moved;
        }
    }
}

/// Makes one transaction. Returns the position afterwards, or none if the view is behind.
async fn apply(sim: &Sim, position: Offset, to: Offset) -> Option<Offset> {
    let read = sim.book();
    pause_for(sim.some_steps(0..3)).await;
    let luck = sim.world().below(30);
    let committed = luck != 0 && sim.world().commit(&read, position, to);
    if committed && luck != 1 {
        return Some(to);
    }
    // Another transaction has moved the position, or the result of this one is unknown.
    pause().await;
    let actual = sim.book().folded;
    (actual >= position).then_some(actual)
}

impl SimulatedWorld {
    /// False if the position has changed.
    fn commit(&mut self, read: &Rc<crate::book::Book>, from: Offset, to: Offset) -> bool {
        let guards = self.guards;
        if self.book.folded != from && guards.pg_compare_and_set {
            return false;
        }
        let range =
            usize::try_from(from.get()).unwrap_or(0)..usize::try_from(to.get()).unwrap_or(0);
        let book = Rc::make_mut(&mut self.book);
        if !guards.pg_compare_and_set {
            // Without this guard, others may write after this transaction has read, and their rows are overwritten.
            book.restore_rows(read, from);
        }
        book.apply(&guards, &self.log[range]);
        self.trace(|| format!("folded to {}", to.get()));
        checks::of_book(self);
        true
    }
}
