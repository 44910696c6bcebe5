//! A connection of a process, and the handle that keeps it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::node::Fence;

/// A connection younger than this has read its fence recently, so it is kept.
const FENCE_RECHECK_TICKS: u64 = 20;

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
    pub(crate) const fn new(node: usize, fence: Fence, made_at: u64) -> Self {
        Self {
            node,
            fence,
            made_at,
            ended: Cell::new(false),
            cut: Cell::new(false),
        }
    }

    pub(crate) fn cut(&self) {
        self.cut.set(true);
        self.end();
    }

    pub(crate) fn end(&self) {
        self.ended.set(true);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.get()
    }

    /// A sale was refused for its fence.
    pub(crate) fn was_foreign(&self, now: u64) {
        if now - self.made_at >= FENCE_RECHECK_TICKS {
            self.end();
        }
    }
}

/// A handle that keeps a connection, and makes a new one when it has ended.
#[derive(Clone, Default)]
pub(crate) struct Stock(Rc<RefCell<Option<Rc<Connection>>>>);

impl Stock {
    /// The connection, unless it has ended.
    pub(crate) fn kept(&self) -> Option<Rc<Connection>> {
        let kept = self.0.borrow();
        kept.as_ref().filter(|c| !c.ended.get()).cloned()
    }

    pub(crate) fn keep(&self, connection: &Rc<Connection>) {
        *self.0.borrow_mut() = Some(Rc::clone(connection));
    }
}
