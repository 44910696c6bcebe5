//! What is kept of one sale.

use std::collections::BTreeMap;

use seckill_domain::{Epoch, EventId, KeyHash, Offset, OrderId, Terms, Timestamp, UserId};
use seckill_stock::{HoldState, PendingEvent};
use uuid::Uuid;

/// A buyer's last order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub order_id: OrderId,
    pub units: u32,
    /// How far it has come.
    pub state: HoldState,
    /// The hash of its idempotency key.
    pub key_hash: Option<KeyHash>,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
}

impl Hold {
    /// Whether it has units of the sale.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state != HoldState::Released
    }

    /// The units that it has.
    #[must_use]
    pub fn live_units(&self) -> i64 {
        if self.is_live() {
            i64::from(self.units)
        } else {
            0
        }
    }
}

/// Units that a shrink has taken, or wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrink {
    /// Positive.
    pub units: i64,
    /// Whether the log's decision is known here.
    pub decided: bool,
    /// When they were taken; not known of one that was loaded.
    pub at: Option<Timestamp>,
}

/// What each used sale token of a sale was used for. They outlive the sale's other keys.
pub type SaleTokens = BTreeMap<Uuid, (OrderId, Option<KeyHash>)>;

/// The hashes of one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// What is sold, when and how.
    pub terms: Terms,
    /// Free units.
    pub stock: i64,
    /// Units in live holds.
    pub held: i64,
    /// Units in holds and shrinks on which the log's decision is not known here.
    pub unsettled: i64,
    /// Whether an operator has closed it.
    pub closed: bool,
    /// The epoch in which it was loaded.
    pub epoch: Epoch,
    /// Every decision of the log below is known here.
    pub position: Offset,
    /// Each buyer's last order.
    pub holds: BTreeMap<UserId, Hold>,
    /// Orders whose places others have taken, by the keys that they were placed with.
    pub earlier: BTreeMap<(UserId, KeyHash), Hold>,
    /// Shrinks by the ids of their events.
    pub shrinks: BTreeMap<EventId, Shrink>,
    /// What is pending, by order or event id.
    pub outbox: BTreeMap<Uuid, PendingEvent>,
}

impl Sale {
    /// An order takes the place of whatever its buyer had; the key of that goes on answering.
    pub(crate) fn take_place(&mut self, user_id: UserId, hold: Hold) {
        let before = self.holds.insert(user_id, hold);
        if let Some(before) = before
            && let Some(key) = before.key_hash
            && Some(key) != hold.key_hash
        {
            self.earlier.insert((user_id, key), before);
        }
    }

    /// Counts the units of a live hold, which was taken (+1) or is given up (-1).
    pub(crate) fn count(&mut self, sign: i64, hold: &Hold) {
        let units = sign * hold.live_units();
        self.stock -= units;
        self.held += units;
        if hold.state == HoldState::Held {
            self.unsettled += units;
        }
    }

    /// Whether the numbers are those of the holds and shrinks.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let held: i64 = self.holds.values().map(Hold::live_units).sum();
        let undecided = |hold: &&Hold| hold.state == HoldState::Held;
        let of_holds = self.holds.values().filter(undecided).map(Hold::live_units);
        let open = self.shrinks.values().filter(|shrink| !shrink.decided);
        let of_shrinks = open.map(|shrink| shrink.units);
        held == self.held && of_holds.chain(of_shrinks).sum::<i64>() == self.unsettled
    }
}
