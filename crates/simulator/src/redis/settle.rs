//! `settle.lua`.

use seckill_domain::{Epoch, EventId, KeyHash, Offset, OrderId, StockOp, UserId};

use super::keys::{Entry, Hold, HoldState, Sale, Shrink, State};
use super::node::{CallError, Script};
use crate::guards::Guards;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SettleReply {
    NotServed,
    Gap,
    Settled(Offset),
}

impl Script<'_> {
    pub(crate) fn settle(
        &mut self,
        epoch: Epoch,
        from: Offset,
        to: Offset,
        ops: &[(Offset, StockOp)],
    ) -> Result<SettleReply, CallError> {
        let guards = *self.guards;
        let Ok(sale) = self.usable_sale() else {
            return Ok(SettleReply::NotServed);
        };
        if sale.epoch < epoch && guards.settle_epoch {
            return Ok(SettleReply::NotServed);
        }
        if sale.position < from && guards.gap_refused {
            return Ok(SettleReply::Gap);
        }
        self.begin_writing()?;
        let Some(sale) = self.usable_sale_mut() else {
            return Ok(SettleReply::NotServed);
        };
        for (offset, op) in ops {
            if *offset >= sale.position || !guards.position_guard {
                sale.carry_out(&guards, op);
                sale.position = sale.position.max(offset.next());
            }
        }
        sale.position = sale.position.max(to);
        Ok(SettleReply::Settled(sale.position))
    }
}

impl Sale {
    fn carry_out(&mut self, guards: &Guards, op: &StockOp) {
        match op {
            StockOp::Confirm {
                order_id,
                user_id,
                quantity,
                key_hash,
                ..
            } => {
                self.outbox.remove(&order_id.as_uuid());
                self.confirm(guards, *user_id, *order_id, i64::from(*quantity), *key_hash);
            }
            StockOp::Release { order_id, user_id } => {
                self.outbox.remove(&order_id.as_uuid());
                self.release(guards, *user_id, *order_id);
            }
            StockOp::Restock { units } => self.stock += units,
            StockOp::ShrinkKept { event_id, units } => {
                self.outbox.remove(&event_id.as_uuid());
                if guards.shrink_hold_by_id {
                    self.keep_shrink(*event_id, *units);
                }
            }
            StockOp::ShrinkReturned { event_id, units } => {
                let pending = self.outbox.remove(&event_id.as_uuid());
                match pending {
                    Some(Entry::Shrink { .. }) if !guards.shrink_hold_by_id => {
                        self.stock += units;
                    }
                    _ => self.return_shrink(*event_id, *units),
                }
            }
            StockOp::Close => self.state = State::Closed,
        }
    }

    /// Counts the units of a live hold, which was taken (+1) or is given up (-1).
    fn count(&mut self, sign: i64, units: i64, state: HoldState) {
        self.stock -= sign * units;
        self.held += sign * units;
        if state == HoldState::Held {
            self.unsettled += sign * units;
        }
    }

    fn confirm(
        &mut self,
        guards: &Guards,
        user_id: UserId,
        order_id: OrderId,
        units: i64,
        key_hash: Option<KeyHash>,
    ) {
        let before = self.holds.get(&user_id).copied();
        let own = before.filter(|hold| hold.order_id == order_id);
        if own.is_none() && !guards.adopt_on_confirm {
            return;
        }
        if let Some(hold) = before.filter(Hold::is_live) {
            self.count(-1, hold.units, hold.state);
        }
        let settled = Hold {
            order_id,
            units: own.map_or(units, |hold| hold.units),
            state: HoldState::Settled,
            key_hash: own.map_or(key_hash, |hold| hold.key_hash),
        };
        self.count(1, settled.units, settled.state);
        self.take_place(user_id, settled);
    }

    fn release(&mut self, guards: &Guards, user_id: UserId, order_id: OrderId) {
        let Some(hold) = self.holds.get(&user_id).copied().filter(Hold::is_live) else {
            return;
        };
        if hold.order_id != order_id && guards.release_own_only {
            return;
        }
        self.count(-1, hold.units, hold.state);
        if guards.key_tombstones {
            let state = HoldState::Released;
            self.holds.insert(user_id, Hold { state, ..hold });
        } else {
            self.holds.remove(&user_id);
        }
    }

    fn keep_shrink(&mut self, event_id: EventId, units: i64) {
        match self.shrinks.get(&event_id).filter(|shrink| shrink.taken) {
            Some(shrink) => self.unsettled -= shrink.units,
            None => self.stock -= units,
        }
        let decided = Shrink {
            units,
            taken: false,
        };
        self.shrinks.insert(event_id, decided);
    }

    fn return_shrink(&mut self, event_id: EventId, units: i64) {
        let decided = Shrink {
            units,
            taken: false,
        };
        let before = self.shrinks.insert(event_id, decided);
        if let Some(shrink) = before.filter(|shrink| shrink.taken) {
            self.stock += shrink.units;
            self.unsettled -= shrink.units;
        }
    }
}
