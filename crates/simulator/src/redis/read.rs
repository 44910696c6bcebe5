//! `probe.lua`, `outbox.lua`.

use seckill_domain::{Epoch, Offset, UserId};
use uuid::Uuid;

use super::keys::{Entry, Hold};
use super::node::{CallError, Script, Unusable};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Probe {
    NotServed,
    Open {
        epoch: Epoch,
        position: Offset,
        /// Of the buyer who was asked for.
        hold: Option<Hold>,
    },
}

/// Pending events and the epoch they were granted in.
pub(crate) type Outbox = (Epoch, Vec<(Uuid, Entry)>);

impl Script<'_> {
    pub(crate) fn probe(&self, user: Option<UserId>) -> Probe {
        match self.usable_sale() {
            Ok(sale) => Probe::Open {
                epoch: sale.epoch,
                position: sale.position,
                hold: user.and_then(|user| sale.holds.get(&user).copied()),
            },
            Err(_) => Probe::NotServed,
        }
    }

    /// Whether this server may still grant: it serves the sale and takes writes.
    pub(crate) fn takes_writes(&self) -> Result<bool, CallError> {
        if self.usable_sale().is_err() {
            return Ok(false);
        }
        self.begin_writing()?;
        Ok(true)
    }

    /// What is pending for at least `older_than` ticks; none: not served.
    pub(crate) fn outbox(&self, older_than: u64) -> Result<Outbox, Unusable> {
        let sale = self.usable_sale()?;
        let newest = self.now.saturating_sub(older_than);
        let old = |(_, entry): &(&Uuid, &Entry)| entry.at() <= newest;
        let entries = sale.outbox.iter().filter(old);
        Ok((
            sale.epoch,
            entries.map(|(id, entry)| (*id, *entry)).collect(),
        ))
    }

    /// Everything that is pending in the sale that this load has shut; none: the claim is lost.
    pub(crate) fn old_outbox(&self, nonce: Uuid) -> Option<Outbox> {
        if !self.owns_claim(nonce) {
            return None;
        }
        let Some(sale) = &self.keys.sale else {
            return Some((Epoch::FIRST, Vec::new()));
        };
        let entries = sale.outbox.iter().map(|(id, entry)| (*id, *entry));
        Some((sale.epoch, entries.collect()))
    }
}
