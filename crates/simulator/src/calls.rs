//! Calls of a process to Redis (`crates/stock/src/calls/stock.rs`, `redis/connection.rs`).

use std::cell::RefCell;
use std::rc::Rc;

use crate::redis::{CallError, Connection, Message, Role, Script, Stock};
use crate::sim::Sim;
use crate::task::pause;

/// The least number of steps before a call may time out.
const PATIENCE_STEPS: u32 = 25;

impl Connection {
    /// Reads the fence again, and ends the connection if it has changed.
    pub(crate) fn fence_still_holds(&self, sim: &Sim) -> bool {
        let world = sim.world();
        let node = &world.nodes[self.node];
        let holds = !self.is_cut() && node.fence == self.fence && node.role == Role::Master;
        if !holds {
            self.end();
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
                    self.end();
                }
                return answer;
            }
            if self.is_broken(sim) {
                return Err(CallError::Broken);
            }
            steps += 1;
            if steps > PATIENCE_STEPS && sim.world().chance(0.1) {
                self.end();
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

impl Stock {
    /// Finds any server that says it is a master.
    pub(crate) async fn connection(&self, sim: &Sim) -> Result<Rc<Connection>, CallError> {
        if let Some(connection) = self.kept() {
            return Ok(connection);
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
            Rc::new(Connection::new(node, fence, now))
        };
        sim.world().connections.push(Rc::downgrade(&made));
        self.keep(&made);
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
