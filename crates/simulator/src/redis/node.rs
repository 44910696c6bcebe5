//! A server: its identity, its role, and the calls that wait for it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use uuid::Uuid;

use seckill_script_model::{Sale, SaleTokens};

use super::connection::Connection;
use super::keys::{Keys, StoredSale};
use crate::guards::Guards;

/// Identifies a master during a time in which it has lost no writes: `run_id:master_replid`, with Sentinels also their
/// count of failovers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) run_id: u64,
    pub(crate) replication_id: u64,
    /// The Sentinels' count when they named this master.
    pub(crate) failovers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Master,
    Replica,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection is broken, or the server is not a master.
    Broken,
    /// The server refuses writes. The connection can still be used.
    NoReplicas,
    /// No answer in time. The call may have been executed, or may still be executed later.
    TimedOut,
}

pub(crate) struct Message {
    pub(crate) connection: Rc<Connection>,
    /// Runs the script and returns its answer, or returns why it was not run.
    pub(crate) run: Run,
}

type Run = Box<dyn FnOnce(Result<&mut Script<'_>, CallError>)>;

pub(crate) struct Node {
    pub(crate) name: char,
    pub(crate) role: Role,
    /// Rises with each promotion.
    pub(crate) generation: u64,
    pub(crate) fence: Fence,
    pub(crate) keys: Keys,
    pub(crate) inbox: VecDeque<Message>,
    /// The tick until which it is stopped.
    pub(crate) stopped_until: u64,
    /// When a replica last acknowledged writes, as far as this master knows.
    pub(crate) replica_seen_at: u64,
    /// Whether it had enough replicas when it last counted them.
    pub(crate) has_replica: bool,
}

impl Node {
    pub(crate) fn new(name: char, role: Role, fence: Fence) -> Self {
        Self {
            name,
            role,
            generation: u64::from(role == Role::Master),
            fence,
            keys: Keys::default(),
            inbox: VecDeque::new(),
            stopped_until: 0,
            replica_seen_at: 0,
            has_replica: true,
        }
    }

    /// From now on every call over an existing connection fails.
    pub(crate) fn break_connections(&mut self) {
        for message in self.inbox.drain(..) {
            message.connection.cut();
            (message.run)(Err(CallError::Broken));
        }
    }

    /// Why it refuses writes. None if it accepts them.
    fn write_refusal(&self, guards: &Guards) -> Option<CallError> {
        if self.role == Role::Replica {
            Some(CallError::Broken)
        } else if guards.min_replicas && !self.has_replica {
            Some(CallError::NoReplicas)
        } else {
            None
        }
    }

    /// Runs the next call.
    pub(crate) fn serve(&mut self, now: u64, guards: &Guards) {
        let Some(message) = self.inbox.pop_front() else {
            return;
        };
        let connection = Rc::clone(&message.connection);
        if connection.is_cut() || connection.fence.run_id != self.fence.run_id {
            connection.cut();
            (message.run)(Err(CallError::Broken));
            return;
        }
        let mut script = Script {
            fence: connection.fence,
            now,
            guards,
            write_refusal: self.write_refusal(guards),
            met_foreign: Cell::new(false),
            keys: &mut self.keys,
        };
        (message.run)(Ok(&mut script));
    }
}

/// The context of a running script.
pub(crate) struct Script<'a> {
    /// The fence that its caller has read from the server.
    pub(crate) fence: Fence,
    pub(crate) now: u64,
    pub(crate) guards: &'a Guards,
    write_refusal: Option<CallError>,
    /// Whether a sale was refused for its fence.
    met_foreign: Cell<bool>,
    pub(crate) keys: &'a mut Keys,
}

/// Why a sale may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    Absent,
    Foreign,
    Shut,
    Torn,
}

impl Script<'_> {
    /// Has to be called before the first write. If the server refuses writes, the script ends with this error.
    pub(crate) fn begin_writing(&self) -> Result<(), CallError> {
        self.write_refusal.map_or(Ok(()), Err)
    }

    pub(crate) fn usable_sale(&self) -> Result<&Sale, Unusable> {
        self.usable().map(|stored| &stored.contents)
    }

    /// The sale with what a server notes about it, if it may be used.
    pub(crate) fn usable(&self) -> Result<&StoredSale, Unusable> {
        let stored = self.keys.sale.as_ref().ok_or(Unusable::Absent)?;
        if self.guards.fence && stored.fence != self.fence {
            self.met_foreign.set(true);
            Err(Unusable::Foreign)
        } else if stored.shut {
            Err(Unusable::Shut)
        } else if self.guards.parts_agree && stored.torn {
            Err(Unusable::Torn)
        } else {
            Ok(stored)
        }
    }

    /// The data that a script may change, if the sale may be used.
    pub(crate) fn writable(&mut self) -> Option<(&mut Sale, &mut SaleTokens)> {
        if self.usable_sale().is_err() {
            return None;
        }
        let stored = self.keys.sale.as_mut()?;
        Some((&mut stored.contents, &mut self.keys.tokens))
    }

    pub(crate) fn met_foreign(&self) -> bool {
        self.met_foreign.get()
    }

    pub(crate) fn owns_claim(&self, nonce: Uuid) -> bool {
        !self.guards.claim_owned || self.keys.claim == Some((nonce, self.fence))
    }
}
