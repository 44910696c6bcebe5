//! `reserve.lua`, `shrink.lua`, `clear.lua`.

use seckill_domain::{Epoch, EventId, KeyHash, OrderId, UserId};

use super::keys::{Ack, Entry, Hold, HoldState, Sale, Shrink, State};
use super::node::{CallError, Script};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserve {
    pub(crate) order_id: OrderId,
    pub(crate) event_id: EventId,
    pub(crate) user_id: UserId,
    pub(crate) units: i64,
    pub(crate) key_hash: Option<KeyHash>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ReserveReply {
    NotServed,
    Granted { entry: Entry, epoch: Epoch },
    Repeated { order_id: OrderId, state: HoldState },
    Refused,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ShrinkReply {
    NotServed,
    Refused,
    Taken { entry: Entry, epoch: Epoch },
}

impl Script<'_> {
    pub(crate) fn reserve(
        &mut self,
        ask: &Reserve,
        acks: &[Ack],
    ) -> Result<ReserveReply, CallError> {
        let outbox = self.guards.outbox;
        let now = self.now;
        self.clear(acks)?;
        let Ok(sale) = self.usable_sale() else {
            return Ok(ReserveReply::NotServed);
        };
        let epoch = sale.epoch;
        let by_earlier = self.guards.earlier_keys;
        if let Some(reply) = sale
            .holds
            .get(&ask.user_id)
            .and_then(|hold| answer_from_hold(sale, hold, ask, by_earlier))
        {
            return Ok(reply);
        }
        if sale.state == State::Closed || sale.stock < ask.units {
            return Ok(ReserveReply::Refused);
        }
        let entry = Entry::Reservation {
            at: now,
            event_id: ask.event_id,
            user_id: ask.user_id,
            units: ask.units,
            key_hash: ask.key_hash,
        };
        self.begin_writing()?;
        if let Some(sale) = self.usable_sale_mut() {
            sale.stock -= ask.units;
            sale.held += ask.units;
            sale.unsettled += ask.units;
            let hold = Hold {
                order_id: ask.order_id,
                units: ask.units,
                state: HoldState::Held,
                key_hash: ask.key_hash,
            };
            sale.take_place(ask.user_id, hold);
            if outbox {
                sale.outbox.insert(ask.order_id.as_uuid(), entry);
            }
        }
        Ok(ReserveReply::Granted { entry, epoch })
    }

    pub(crate) fn shrink(
        &mut self,
        event_id: EventId,
        units: i64,
    ) -> Result<ShrinkReply, CallError> {
        let now = self.now;
        let Ok(sale) = self.usable_sale() else {
            return Ok(ShrinkReply::NotServed);
        };
        let epoch = sale.epoch;
        let by_id = self.guards.shrink_hold_by_id;
        if let Some(before) = sale.shrinks.get(&event_id).filter(|_| by_id) {
            let units = before.units;
            let entry = Entry::Shrink { at: now, units };
            return Ok(ShrinkReply::Taken { entry, epoch });
        }
        if sale.stock < units {
            return Ok(ShrinkReply::Refused);
        }
        let entry = Entry::Shrink { at: now, units };
        self.begin_writing()?;
        if let Some(sale) = self.usable_sale_mut() {
            sale.stock -= units;
            if by_id {
                sale.unsettled += units;
                sale.shrinks.insert(event_id, Shrink { units, taken: true });
            }
            sale.outbox.insert(event_id.as_uuid(), entry);
        }
        Ok(ShrinkReply::Taken { entry, epoch })
    }

    pub(crate) fn clear(&mut self, acks: &[Ack]) -> Result<(), CallError> {
        let any_epoch = !self.guards.ack_clear_epoch;
        if acks.is_empty() || self.usable_sale().is_err() {
            return Ok(());
        }
        self.begin_writing()?;
        if let Some(sale) = self.usable_sale_mut() {
            for ack in acks {
                if ack.epoch == sale.epoch || any_epoch {
                    sale.outbox.remove(&ack.id);
                }
            }
        }
        Ok(())
    }
}

/// What the buyer's earlier orders mean for a request; nothing if they bar nothing.
fn answer_from_hold(
    sale: &Sale,
    hold: &Hold,
    ask: &Reserve,
    by_earlier: bool,
) -> Option<ReserveReply> {
    let same_order = hold.order_id == ask.order_id;
    if same_order
        && hold.state == HoldState::Held
        && let Some(entry) = sale.outbox.get(&ask.order_id.as_uuid())
    {
        let (entry, epoch) = (*entry, sale.epoch);
        return Some(ReserveReply::Granted { entry, epoch });
    }
    let same_key = ask.key_hash.is_some() && ask.key_hash == hold.key_hash;
    if same_key && hold.units != ask.units {
        Some(ReserveReply::Refused)
    } else if same_key || same_order {
        Some(ReserveReply::Repeated {
            order_id: hold.order_id,
            state: hold.state,
        })
    } else if let Some(earlier) = ask
        .key_hash
        .and_then(|key| sale.earlier.get(&(ask.user_id, key)))
        .filter(|_| by_earlier)
    {
        Some(if earlier.units == ask.units {
            ReserveReply::Repeated {
                order_id: earlier.order_id,
                state: HoldState::Released,
            }
        } else {
            ReserveReply::Refused
        })
    } else {
        hold.is_live().then_some(ReserveReply::Refused)
    }
}
