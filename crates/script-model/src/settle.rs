//! The rules of `settle.lua`.

use seckill_domain::{Epoch, EventId, Offset, OrderId, StockOp, UserId};
use seckill_stock::{HoldState, PendingEvent, SettleReply};

use crate::rules::Rules;
use crate::sale::{Hold, Sale, Shrink};

impl Sale {
    /// Why decisions from `from` on cannot be applied. None if they can. `epoch` is PostgreSQL's.
    #[must_use]
    pub fn refuses_to_settle(
        &self,
        rules: &Rules,
        epoch: Epoch,
        from: Offset,
    ) -> Option<SettleReply> {
        if self.epoch < epoch && rules.settle_epoch {
            return Some(SettleReply::NotServed);
        }
        let position = self.position;
        (position < from && rules.gap_refused).then_some(SettleReply::Gap { position })
    }

    /// Applies the log's decisions in the log's order. Afterwards every decision below `to` is applied.
    pub fn settle(&mut self, rules: &Rules, to: Offset, ops: &[(Offset, StockOp)]) -> SettleReply {
        for (offset, op) in ops {
            if *offset >= self.position || !rules.position_guard {
                self.carry_out(rules, op);
                self.position = self.position.max(offset.next());
            }
        }
        self.position = self.position.max(to);
        SettleReply::Settled {
            position: self.position,
        }
    }

    fn carry_out(&mut self, rules: &Rules, op: &StockOp) {
        match op {
            StockOp::Confirm {
                order_id,
                user_id,
                quantity,
                key_hash,
                pay_by,
            } => {
                self.outbox.remove(&order_id.as_uuid());
                let adopted = Hold {
                    order_id: *order_id,
                    units: *quantity,
                    state: HoldState::Settled,
                    key_hash: *key_hash,
                    pay_by: *pay_by,
                };
                self.confirm(rules, *user_id, adopted);
            }
            StockOp::Release { order_id, user_id } => {
                self.outbox.remove(&order_id.as_uuid());
                self.release(rules, *user_id, *order_id);
            }
            StockOp::Restock { units } => self.stock += units,
            StockOp::ShrinkKept { event_id, units } => {
                self.outbox.remove(&event_id.as_uuid());
                if rules.shrink_hold_by_id {
                    self.keep_shrink(*event_id, *units);
                }
            }
            StockOp::ShrinkReturned { event_id, units } => {
                let pending = self.outbox.remove(&event_id.as_uuid());
                match pending {
                    Some(PendingEvent::Shrink(_)) if !rules.shrink_hold_by_id => {
                        self.stock += units;
                    }
                    _ => self.return_shrink(*event_id, *units),
                }
            }
            StockOp::Close => self.closed = true,
        }
    }

    /// The order is accepted. `adopted` is its hold if the server has lost it.
    fn confirm(&mut self, rules: &Rules, user_id: UserId, adopted: Hold) {
        let before = self.holds.get(&user_id).copied();
        let own = before.filter(|hold| hold.order_id == adopted.order_id);
        if own.is_none() && !rules.adopt_on_confirm {
            return;
        }
        if let Some(before) = before {
            self.count(-1, &before);
        }
        let state = HoldState::Settled;
        let settled = own.map_or(adopted, |own| Hold { state, ..own });
        self.count(1, &settled);
        self.take_place(user_id, settled);
    }

    fn release(&mut self, rules: &Rules, user_id: UserId, order_id: OrderId) {
        let Some(hold) = self.holds.get(&user_id).copied().filter(Hold::is_live) else {
            return;
        };
        if hold.order_id != order_id && rules.release_own_only {
            return;
        }
        self.count(-1, &hold);
        if rules.key_tombstones {
            let state = HoldState::Released;
            self.holds.insert(user_id, Hold { state, ..hold });
        } else {
            self.holds.remove(&user_id);
        }
    }

    fn keep_shrink(&mut self, event_id: EventId, units: i64) {
        match self.decide_shrink(event_id, units) {
            Some(open) => self.unsettled -= open.units,
            None => self.stock -= units,
        }
    }

    fn return_shrink(&mut self, event_id: EventId, units: i64) {
        if let Some(open) = self.decide_shrink(event_id, units) {
            self.stock += open.units;
            self.unsettled -= open.units;
        }
    }

    /// Marks a shrink as decided. Returns it as it was before, if it was not decided yet.
    fn decide_shrink(&mut self, event_id: EventId, units: i64) -> Option<Shrink> {
        let before = self.shrinks.get(&event_id).copied();
        let decided = Shrink {
            units,
            decided: true,
            at: before.and_then(|before| before.at),
        };
        self.shrinks.insert(event_id, decided);
        before.filter(|before| !before.decided)
    }
}
