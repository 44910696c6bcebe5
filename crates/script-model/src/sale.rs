//! The data of one sale.

use std::collections::BTreeMap;

use seckill_domain::{Epoch, EventId, KeyHash, Offset, OrderId, Terms, Timestamp, UserId};
use seckill_stock::{HoldState, PendingEvent};
use uuid::Uuid;

/// A buyer's last order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub order_id: OrderId,
    pub units: u32,
    /// Held, settled or released.
    pub state: HoldState,
    /// The hash of its idempotency key.
    pub key_hash: Option<KeyHash>,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
}

impl Hold {
    /// Whether it holds units of the sale.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.state != HoldState::Released
    }

    /// The units that it holds.
    #[must_use]
    pub fn live_units(&self) -> i64 {
        if self.is_live() {
            i64::from(self.units)
        } else {
            0
        }
    }
}

/// A shrink, with the units that it has taken or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shrink {
    /// Positive.
    pub units: i64,
    /// Whether Redis knows the log's decision.
    pub decided: bool,
    /// When they were taken. None for a shrink that was loaded from PostgreSQL.
    pub at: Option<Timestamp>,
}

/// The order that each used sale token was used for. These data outlive the other keys of the sale.
pub type SaleTokens = BTreeMap<Uuid, (OrderId, Option<KeyHash>)>;

/// The hashes of one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// Price, window, limits and other terms.
    pub terms: Terms,
    /// Free units.
    pub stock: i64,
    /// Units in live holds.
    pub held: i64,
    /// Units in holds and shrinks whose decision in the log is not known in Redis.
    pub unsettled: i64,
    /// Whether an operator has closed it.
    pub closed: bool,
    /// The epoch in which it was loaded.
    pub epoch: Epoch,
    /// Every decision of the log below this offset is applied.
    pub position: Offset,
    /// Each buyer's last order.
    pub holds: BTreeMap<UserId, Hold>,
    /// Orders that a newer order of the buyer has replaced, by their idempotency keys.
    pub earlier: BTreeMap<(UserId, KeyHash), Hold>,
    /// Shrinks by the ids of their events.
    pub shrinks: BTreeMap<EventId, Shrink>,
    /// The pending events, by order or event id.
    pub outbox: BTreeMap<Uuid, PendingEvent>,
    /// The end of the last lease on sold-out.
    pub sold_out_until: Timestamp,
}

impl Sale {
    /// An order replaces its buyer's hold. The key of the replaced order is kept.
    pub(crate) fn take_place(&mut self, user_id: UserId, hold: Hold) {
        let before = self.holds.insert(user_id, hold);
        if let Some(before) = before
            && let Some(key) = before.key_hash
            && Some(key) != hold.key_hash
        {
            self.earlier.insert((user_id, key), before);
        }
    }

    /// Adds (+1) or removes (-1) a live hold with its units in the sale's numbers.
    pub(crate) fn count(&mut self, sign: i64, hold: &Hold) {
        let units = sign * hold.live_units();
        self.stock -= units;
        self.held += units;
        if hold.state == HoldState::Held {
            self.unsettled += units;
        }
    }

    /// Whether the sale's numbers are the sums of its holds and shrinks.
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
