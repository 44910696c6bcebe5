//! The connections of a process (`crates/stock/src/calls/stock.rs`, `redis/connection.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::node::{CallError, Fence, Message, Role, Script};
use crate::sim::Sim;
use crate::task::pause;

/// A connection younger than this has read its fence recently, so it is kept.
const FENCE_RECHECK_TICKS: u64 = 20;
/// The least number of steps before a call may time out.
const PATIENCE_STEPS: u32 = 25;

pub(crate) struct Connection {
    pub(crate) node: usize,
    pub(crate) fence: Fence,
    made_at: u64,
    /// Whether it has ended. The handle then makes a new one.
    ended: Cell<bool>,
    /// Whether the network is cut, so that no call arrives any more.
    cut: Cell<bool>,
}

impl Connection {
    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.ended.set(true);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// A sale was refused for its fence.
    fn was_foreign(&self, now: u64) {
        if now - self.made_at >= FENCE_RECHECK_TICKS {
            self.ended.set(true);
        }
    }

    /// Reads the fence again, and ends the connection if it has changed.
    pub(crate) fn fence_still_holds(&self, sim: &Sim) -> bool {
        let world = sim.world();
        let node = &world.nodes[self.node];
        let holds = !self.is_cut() && node.fence == self.fence && node.role == Role::Master;
        if !holds {
            self.ended.set(true);
        }
        holds
    }

    /// Runs a script, after the calls that already wait at the server.
    pub(crate) async fn call<R: 'static>(
        self: &Rc<Self>,
        sim: &Sim,
        script: impl FnOnce(&mut Script<'_>) -> Result<R, CallError> + 'static,
    ) -> Result<R, CallError> {
        let answer = Rc::new(RefCell::new(None));
        if self.is_broken(sim) {
            return Err(CallError::Broken);
        }
        let (theirs, connection) = (Rc::clone(&answer), Rc::clone(self));
        let run = Box::new(move |surroundings: Result<&mut Script<'_>, CallError>| {
            let answer = surroundings.and_then(|surroundings| {
                let answer = script(surroundings);
                if surroundings.met_foreign() {
                    connection.was_foreign(surroundings.now);
                }
                answer
            });
            *theirs.borrow_mut() = Some(answer);
        });
        let connection = Rc::clone(self);
        sim.world().nodes[self.node]
            .inbox
            .push_back(Message { connection, run });
        let mut steps = 0;
        loop {
            pause().await;
            if let Some(answer) = answer.borrow_mut().take() {
                if matches!(answer, Err(CallError::Broken)) {
                    self.ended.set(true);
                }
                return answer;
            }
            if self.is_broken(sim) {
                return Err(CallError::Broken);
            }
            steps += 1;
            if steps > PATIENCE_STEPS && sim.world().chance(0.1) {
                self.ended.set(true);
                return Err(CallError::TimedOut);
            }
        }
    }

    fn is_broken(&self, sim: &Sim) -> bool {
        let same_run = sim.world().nodes[self.node].fence.run_id == self.fence.run_id;
        if self.is_cut() || !same_run {
            self.cut();
        }
        self.is_cut()
    }
}

/// A handle that keeps a connection, and makes a new one when it has ended.
#[derive(Clone, Default)]
pub(crate) struct Stock(Rc<RefCell<Option<Rc<Connection>>>>);

impl Stock {
    /// Finds any server that says it is a master.
    pub(crate) async fn connection(&self, sim: &Sim) -> Result<Rc<Connection>, CallError> {
        if let Some(connection) = self.0.borrow().as_ref().filter(|c| !c.ended.get()) {
            return Ok(Rc::clone(connection));
        }
        pause().await;
        let made = {
            let mut world = sim.world();
            let now = world.now;
            let masters = world.masters();
            let node = world.choose(&masters).ok_or(CallError::Broken)?;
            if world.nodes[node].stopped_until > now {
                return Err(CallError::TimedOut);
            }
            let fence = world.nodes[node].fence;
            Rc::new(Connection {
                node,
                fence,
                made_at: now,
                ended: Cell::new(false),
                cut: Cell::new(false),
            })
        };
        sim.world().connections.push(Rc::downgrade(&made));
        *self.0.borrow_mut() = Some(Rc::clone(&made));
        Ok(made)
    }

    /// One call over the current connection.
    pub(crate) async fn call<R: 'static>(
        &self,
        sim: &Sim,
        script: impl FnOnce(&mut Script<'_>) -> Result<R, CallError> + 'static,
    ) -> Result<R, CallError> {
        self.connection(sim).await?.call(sim, script).await
    }
}
