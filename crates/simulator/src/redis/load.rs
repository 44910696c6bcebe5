//! `claim.lua`, `load_chunk.lua`, `open.lua`, `discard.lua`, `retire.lua`.

use seckill_domain::{Epoch, EventId, Offset, Order, OrderId};
use uuid::Uuid;

use super::keys::{Entry, Hold, HoldState, Sale, Shrink, State};
use super::node::{CallError, Script};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    Live,
    Claimed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loaded {
    Lost,
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opened {
    Lost,
    Opened,
}

impl Script<'_> {
    pub(crate) fn claim(&mut self, nonce: Uuid, epoch: Epoch) -> Result<Claim, CallError> {
        if self.usable_sale().is_ok_and(|sale| sale.epoch >= epoch) {
            return Ok(Claim::Live);
        }
        self.begin_writing()?;
        let shuts = self.guards.claim_shuts;
        if let Some(sale) = self.keys.sale.as_mut().filter(|_| shuts) {
            sale.state = State::Shut;
        }
        self.keys.claim = Some((nonce, self.fence));
        Ok(Claim::Claimed)
    }

    /// Writes the claim once more.
    pub(crate) fn renew(&mut self, nonce: Uuid) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        Ok(Loaded::Done)
    }

    pub(crate) fn load_begin(&mut self, nonce: Uuid, sale: Sale) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        self.keys.staged.insert(nonce, sale);
        Ok(Loaded::Done)
    }

    pub(crate) fn load_holds(
        &mut self,
        nonce: Uuid,
        orders: &[Order],
    ) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        let Some(staged) = self.keys.staged.get_mut(&nonce) else {
            return Ok(Loaded::Lost);
        };
        for order in orders {
            let hold = Hold {
                order_id: order.order_id,
                units: i64::from(order.quantity),
                state: if order.status.is_live() {
                    HoldState::Settled
                } else {
                    HoldState::Released
                },
                key_hash: order.key_hash,
            };
            let before = staged.holds.insert(order.user_id, hold);
            staged.held += hold.live_units() - before.map_or(0, |hold| hold.live_units());
        }
        Ok(Loaded::Done)
    }

    /// Orders of which only the keys are kept, and shrinks that are decided.
    pub(crate) fn load_memories(
        &mut self,
        nonce: Uuid,
        orders: &[Order],
        shrinks: &[(EventId, i64)],
    ) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        let Some(staged) = self.keys.staged.get_mut(&nonce) else {
            return Ok(Loaded::Lost);
        };
        for order in orders {
            if let Some(key) = order.key_hash {
                let hold = Hold {
                    order_id: order.order_id,
                    units: i64::from(order.quantity),
                    state: HoldState::Released,
                    key_hash: order.key_hash,
                };
                staged.earlier.insert((order.user_id, key), hold);
            }
        }
        for (event_id, units) in shrinks {
            let decided = Shrink {
                units: *units,
                taken: false,
            };
            staged.shrinks.insert(*event_id, decided);
        }
        Ok(Loaded::Done)
    }

    pub(crate) fn regrant(
        &mut self,
        nonce: Uuid,
        pending: &[(Uuid, Entry)],
    ) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        let by_id = self.guards.shrink_hold_by_id;
        let Some(staged) = self.keys.staged.get_mut(&nonce) else {
            return Ok(Loaded::Lost);
        };
        for (id, entry) in pending {
            staged.grant_again(*id, *entry, by_id);
        }
        Ok(Loaded::Done)
    }

    pub(crate) fn open(&mut self, nonce: Uuid) -> Result<Opened, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Opened::Lost);
        }
        let Some(staged) = self.keys.staged.get(&nonce) else {
            return Ok(Opened::Lost);
        };
        let epoch = staged.epoch;
        if self.usable_sale().is_ok_and(|sale| sale.epoch >= epoch) {
            return Ok(Opened::Lost);
        }
        self.begin_writing()?;
        let Some(mut sale) = self.keys.staged.remove(&nonce) else {
            return Ok(Opened::Lost);
        };
        sale.fence = Some(self.fence);
        self.keys.sale = Some(sale);
        self.keys.claim = None;
        Ok(Opened::Opened)
    }

    /// The load of a sale that is over: nothing of it stays.
    pub(crate) fn discard(&mut self, nonce: Uuid, epoch: Epoch) -> Result<Loaded, CallError> {
        let in_use = self.usable_sale().is_ok_and(|sale| sale.epoch >= epoch);
        if !self.owns_claim(nonce) || in_use {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        self.keys.staged.remove(&nonce);
        self.keys.sale = None;
        self.keys.claim = None;
        Ok(Loaded::Done)
    }

    /// The position that the sale had, if it was removed.
    pub(crate) fn retire(&mut self, position: Offset) -> Result<Option<Offset>, CallError> {
        let Ok(sale) = self.usable_sale() else {
            return Ok(None);
        };
        let had = sale.position;
        let at_rest =
            sale.state == State::Closed && sale.unsettled == 0 && sale.position >= position;
        if !at_rest || !sale.outbox.is_empty() {
            return Ok(None);
        }
        self.begin_writing()?;
        self.keys.sale = None;
        Ok(Some(had))
    }
}

impl Sale {
    fn grant_again(&mut self, id: Uuid, entry: Entry, shrinks_by_id: bool) {
        let units = match entry {
            Entry::Reservation { units, .. } | Entry::Shrink { units, .. } => units,
        };
        if self.stock < units {
            return;
        }
        match entry {
            Entry::Reservation {
                user_id, key_hash, ..
            } => {
                let barred = self.holds.get(&user_id).is_some_and(Hold::is_live);
                let Some(order_id) = OrderId::from_uuid(id).ok().filter(|_| !barred) else {
                    return;
                };
                let hold = Hold {
                    order_id,
                    units,
                    state: HoldState::Held,
                    key_hash,
                };
                self.take_place(user_id, hold);
                self.held += units;
            }
            Entry::Shrink { .. } => {
                let event_id = EventId::from_uuid(id);
                if self.shrinks.contains_key(&event_id) {
                    return;
                }
                if shrinks_by_id {
                    self.shrinks.insert(event_id, Shrink { units, taken: true });
                } else {
                    self.unsettled -= units;
                }
            }
        }
        self.outbox.insert(id, entry);
        self.stock -= units;
        self.unsettled += units;
    }
}
