//! What one sale's keys hold (`crates/stock/scripts/prelude.lua`).

use std::collections::BTreeMap;

use seckill_domain::{
    Epoch, Event, EventBody, EventId, KeyHash, Offset, OrderId, Reason, SeckillReserved,
    StockAdjusted, Timestamp, UserId,
};
use uuid::Uuid;

use super::node::Fence;
use crate::scene;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    Closed,
    Shut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HoldState {
    Held,
    Settled,
    Released,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) order_id: OrderId,
    pub(crate) units: i64,
    pub(crate) state: HoldState,
    pub(crate) key_hash: Option<KeyHash>,
}

impl Hold {
    pub(crate) fn is_live(&self) -> bool {
        self.state != HoldState::Released
    }

    pub(crate) fn live_units(&self) -> i64 {
        if self.is_live() { self.units } else { 0 }
    }
}

/// A shrink's units; `taken` until it is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shrink {
    pub(crate) units: i64,
    pub(crate) taken: bool,
}

/// A pending event, without the epoch, which is the sale's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Reservation {
        at: u64,
        event_id: EventId,
        user_id: UserId,
        units: i64,
        key_hash: Option<KeyHash>,
    },
    Shrink {
        at: u64,
        units: i64,
    },
}

/// That the log has a pending event, published under this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: Uuid,
    pub(crate) epoch: Epoch,
}

impl Entry {
    pub(crate) const fn at(&self) -> u64 {
        match self {
            Self::Reservation { at, .. } | Self::Shrink { at, .. } => *at,
        }
    }

    /// The event to publish, the same each time; none for an id that is not of its kind.
    pub(crate) fn to_event(self, id: Uuid, epoch: Epoch) -> Option<Event> {
        let (event_id, body) = match self {
            Self::Reservation {
                event_id,
                user_id,
                units,
                key_hash,
                ..
            } => (
                event_id,
                EventBody::SeckillReserved(SeckillReserved {
                    order_id: OrderId::from_uuid(id).ok()?,
                    user_id,
                    quantity: u32::try_from(units).ok()?,
                    price: scene::price(),
                    pay_by: Timestamp::from_micros(0),
                    epoch,
                    key_hash,
                }),
            ),
            Self::Shrink { units, .. } => (
                EventId::from_uuid(id),
                EventBody::StockAdjusted(StockAdjusted {
                    delta: -units,
                    reason: Reason::default(),
                    epoch: Some(epoch),
                }),
            ),
        };
        Some(scene::event(event_id, body))
    }
}

/// The hashes of one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sale {
    pub(crate) stock: i64,
    /// Units in live holds.
    pub(crate) held: i64,
    /// Units in holds and shrinks on which the log's decision is not known here.
    pub(crate) unsettled: i64,
    pub(crate) state: State,
    /// None while it is being loaded.
    pub(crate) fence: Option<Fence>,
    pub(crate) epoch: Epoch,
    pub(crate) position: Offset,
    pub(crate) holds: BTreeMap<UserId, Hold>,
    /// Orders whose places others have taken, by the keys that they were placed with.
    pub(crate) earlier: BTreeMap<(UserId, KeyHash), Hold>,
    pub(crate) shrinks: BTreeMap<EventId, Shrink>,
    pub(crate) outbox: BTreeMap<Uuid, Entry>,
    /// Whether a part was deleted or evicted alone: what it held is gone, and it does not name the load any more.
    pub(crate) torn: bool,
}

impl Sale {
    /// An order takes the place of whatever its buyer had; the key of that goes on answering.
    pub(crate) fn take_place(&mut self, user_id: UserId, hold: Hold) -> Option<Hold> {
        let before = self.holds.insert(user_id, hold);
        if let Some(before) = before
            && let Some(key) = before.key_hash
            && Some(key) != hold.key_hash
        {
            self.earlier.insert((user_id, key), before);
        }
        before
    }

    /// Why the numbers contradict each other, if they do.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let held: i64 = self.holds.values().map(Hold::live_units).sum();
        let undecided = |hold: &&Hold| hold.state == HoldState::Held;
        let of_holds: i64 = self.holds.values().filter(undecided).map(|h| h.units).sum();
        let shrinks = self.shrinks.values().filter(|shrink| shrink.taken);
        let of_shrinks: i64 = shrinks.map(|shrink| shrink.units).sum();
        if self.stock < 0 {
            Some("stock in Redis is negative")
        } else if self.torn {
            // The numbers are of holds that are gone.
            None
        } else if held != self.held || of_holds + of_shrinks != self.unsettled {
            Some("counters in Redis are wrong")
        } else {
            None
        }
    }
}

/// Everything a node stores.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys {
    pub(crate) sale: Option<Sale>,
    /// Nonce and fence of the load that may go on.
    pub(crate) claim: Option<(Uuid, Fence)>,
    /// The contents of loads, by nonce.
    pub(crate) staged: BTreeMap<Uuid, Sale>,
}
