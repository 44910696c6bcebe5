//! `claim.lua`, `load_chunk.lua`, `open.lua`, `discard.lua`, `retire.lua`.

use seckill_domain::{Epoch, Offset};
use seckill_script_model::Sale;
use seckill_stock::{LoadHold, LoadShrink, PendingEvent};
use uuid::Uuid;

use super::keys::StoredSale;
use super::node::{CallError, Script};
use super::scripts::Outbox;
use crate::scene;

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
            sale.shut = true;
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

    /// Orders and decided shrinks of PostgreSQL.
    pub(crate) fn load_rows(
        &mut self,
        nonce: Uuid,
        orders: &[LoadHold],
        shrinks: &[LoadShrink],
    ) -> Result<Loaded, CallError> {
        self.fill(nonce, |sale| {
            sale.load_holds(orders);
            sale.load_shrinks(shrinks);
        })
    }

    pub(crate) fn regrant(
        &mut self,
        nonce: Uuid,
        pending: &[PendingEvent],
    ) -> Result<Loaded, CallError> {
        let rules = self.guards.scripts;
        self.fill(nonce, |sale| sale.regrant(&rules, pending))
    }

    fn fill(&mut self, nonce: Uuid, with: impl FnOnce(&mut Sale)) -> Result<Loaded, CallError> {
        if !self.owns_claim(nonce) {
            return Ok(Loaded::Lost);
        }
        self.begin_writing()?;
        let Some(staged) = self.keys.staged.get_mut(&nonce) else {
            return Ok(Loaded::Lost);
        };
        with(staged);
        Ok(Loaded::Done)
    }

    /// All pending events of the sale that this load has shut. None if the load has lost its claim.
    pub(crate) fn old_outbox(&self, nonce: Uuid) -> Option<Outbox> {
        if !self.owns_claim(nonce) {
            return None;
        }
        let old = self.keys.sale.as_ref().map(|stored| &stored.contents);
        Some(old.map_or((Epoch::FIRST, Vec::new()), |sale| {
            (sale.epoch, sale.outbox.values().cloned().collect())
        }))
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
        let Some(contents) = self.keys.staged.remove(&nonce) else {
            return Ok(Opened::Lost);
        };
        self.keys.sale = Some(StoredSale {
            contents,
            load: nonce,
            fence: self.fence,
            shut: false,
            torn: false,
        });
        self.keys.claim = None;
        Ok(Opened::Opened)
    }

    /// Ends the load of a sale that is over, and removes the sale.
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
        if !sale.is_at_rest(position, scene::moment(self.now)) {
            return Ok(None);
        }
        self.begin_writing()?;
        self.keys.sale = None;
        Ok(Some(had))
    }
}
