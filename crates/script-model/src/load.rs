//! The rules of `load_chunk.lua` and `retire.lua`.

use std::collections::BTreeMap;

use seckill_domain::{Offset, Sale as SaleRow, Timestamp};
use seckill_stock::{HoldPlace, HoldState, LoadHold, LoadShrink, PendingEvent};

use crate::rules::Rules;
use crate::sale::{Hold, Sale, Shrink};

impl Sale {
    /// Begins a load: the sale in PostgreSQL's state at `position`, still without holds.
    #[must_use]
    pub fn begin(row: &SaleRow, position: Offset) -> Self {
        Self {
            terms: row.terms.clone(),
            stock: row.available,
            held: 0,
            unsettled: 0,
            closed: row.closed.is_some(),
            epoch: row.epoch,
            position,
            holds: BTreeMap::new(),
            earlier: BTreeMap::new(),
            shrinks: BTreeMap::new(),
            outbox: BTreeMap::new(),
            sold_out_until: Timestamp::from_micros(0),
        }
    }

    /// Loads orders of PostgreSQL. The stock at the beginning of the load is already without the units of live ones.
    pub fn load_holds(&mut self, orders: &[LoadHold]) {
        for order in orders {
            let settled = order.place == HoldPlace::Live;
            let hold = Hold {
                order_id: order.order_id,
                units: order.quantity,
                state: if settled {
                    HoldState::Settled
                } else {
                    HoldState::Released
                },
                key_hash: order.key_hash,
                pay_by: order.pay_by,
            };
            if order.place == HoldPlace::Earlier {
                if let Some(key) = order.key_hash {
                    self.earlier.insert((order.user_id, key), hold);
                }
                continue;
            }
            let before = self.holds.insert(order.user_id, hold);
            self.held += hold.live_units() - before.map_or(0, |before| before.live_units());
        }
    }

    /// Loads shrinks that the log has decided.
    pub fn load_shrinks(&mut self, shrinks: &[LoadShrink]) {
        for shrink in shrinks {
            let decided = Shrink {
                units: shrink.units,
                decided: true,
                at: None,
            };
            self.shrinks.insert(shrink.event_id, decided);
        }
    }

    /// Grants the pending events of the sale before this load again, under the new epoch, as far as there is stock.
    pub fn regrant(&mut self, rules: &Rules, lost: &[PendingEvent]) {
        for pending in lost {
            let mut pending = pending.clone();
            let granted = match &mut pending {
                PendingEvent::Reservation(lost) => {
                    lost.epoch = self.epoch;
                    let barred = self.holds.get(&lost.user_id).is_some_and(Hold::is_live);
                    let can = !barred && self.stock >= i64::from(lost.quantity);
                    if can {
                        self.take(lost);
                    }
                    can
                }
                PendingEvent::Shrink(lost) => {
                    lost.epoch = self.epoch;
                    let known = self.shrinks.contains_key(&lost.event_id);
                    let can = !known && self.stock >= lost.units;
                    if can {
                        self.take_shrink(rules, lost.event_id, lost.units, lost.at);
                    }
                    can
                }
            };
            if granted {
                self.outbox.insert(pending.ack().id, pending);
            }
        }
    }

    /// Whether the sale may be removed from Redis, if PostgreSQL has folded the log up to `position`.
    #[must_use]
    pub fn is_at_rest(&self, position: Offset, now: Timestamp) -> bool {
        let over = self.closed || now >= self.terms.closes_at;
        over && self.unsettled == 0 && self.position >= position && self.outbox.is_empty()
    }
}
