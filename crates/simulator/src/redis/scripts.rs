//! The server's part of the scripts for a sale that is served. Their decisions are in `seckill_script_model`.

use std::collections::BTreeSet;

use seckill_domain::{Epoch, EventId, Offset, StockOp, UserId};
use seckill_script_model::Hold;
use seckill_stock::{
    Ack, Attempt, PendingEvent, ReserveOutcome, ReserveRequest, SettleReply, ShrinkReply,
};
use uuid::Uuid;

use super::node::{CallError, Script, Unusable};
use crate::scene;

/// Requests of a call where many ask. Here each call has one that counts.
const CROWD: usize = 2;

#[derive(Debug, Clone)]
pub(crate) enum ReserveReply {
    NotServed,
    Decided(ReserveOutcome),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Probe {
    NotServed,
    Open {
        epoch: Epoch,
        position: Offset,
        /// The hold of the given buyer.
        hold: Option<Hold>,
    },
}

/// The buyers who have ordered, as one load of the sale has them: while it is the same, so are they.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HoldersVersion {
    pub(crate) load: Uuid,
    count: usize,
}

/// A lease on sold-out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SoldOutLease {
    pub(crate) ticks: u64,
    pub(crate) holders: HoldersVersion,
}

/// Pending events and the epoch they were granted in.
pub(crate) type Outbox = (Epoch, Vec<PendingEvent>);

impl Script<'_> {
    pub(crate) fn reserve(
        &mut self,
        request: &ReserveRequest,
        attempt: Attempt,
        acks: &[Ack],
    ) -> Result<ReserveReply, CallError> {
        self.clear(acks)?;
        let (rules, now) = (self.guards.scripts, scene::moment(self.now));
        let Ok(sale) = self.usable_sale() else {
            return Ok(ReserveReply::NotServed);
        };
        let answer = sale.answer(&rules, &self.keys.tokens, request, attempt, now);
        if let Some(answer) = answer {
            return Ok(ReserveReply::Decided(answer));
        }
        self.begin_writing()?;
        let Some((sale, tokens)) = self.writable() else {
            return Ok(ReserveReply::NotServed);
        };
        let granted = sale.grant(&rules, tokens, request, now);
        Ok(ReserveReply::Decided(ReserveOutcome::Granted(granted)))
    }

    /// The load of the sale that is served.
    pub(crate) fn load(&self) -> Option<Uuid> {
        self.usable().ok().map(|stored| stored.load)
    }

    /// A lease on sold-out, if there is one. The call that asks for it is one of a crowd's.
    pub(crate) fn lease_on_sold_out(&mut self) -> Option<SoldOutLease> {
        self.usable().ok()?;
        let (now, writable) = (self.now, self.begin_writing().is_ok());
        let stored = self.keys.sale.as_mut()?;
        let (at, longest) = (scene::moment(now), scene::LEASE_TICKS.cast_signed());
        let until = stored
            .contents
            .lease_on_sold_out(CROWD, at, longest, writable)?;
        let ticks = until.as_micros() - at.as_micros();
        Some(SoldOutLease {
            ticks: ticks.cast_unsigned(),
            holders: HoldersVersion {
                load: stored.load,
                count: stored.contents.holds.len(),
            },
        })
    }

    /// The buyers who have ordered, and the load of the sale that has them. None: the sale is not served.
    pub(crate) fn holders(&self) -> Option<(Uuid, BTreeSet<UserId>)> {
        let stored = self.usable().ok()?;
        Some((stored.load, stored.contents.holds.keys().copied().collect()))
    }

    pub(crate) fn shrink(
        &mut self,
        event_id: EventId,
        units: i64,
    ) -> Result<ShrinkReply, CallError> {
        let (rules, now) = (self.guards.scripts, scene::moment(self.now));
        let Ok(sale) = self.usable_sale() else {
            return Ok(ShrinkReply::NotServed);
        };
        if let Some(answer) = sale.answer_shrink(&rules, event_id, units, now) {
            return Ok(answer);
        }
        self.begin_writing()?;
        let Some((sale, _)) = self.writable() else {
            return Ok(ShrinkReply::NotServed);
        };
        let taken = sale.take_shrink(&rules, event_id, units, now);
        Ok(ShrinkReply::Taken(taken))
    }

    pub(crate) fn clear(&mut self, acks: &[Ack]) -> Result<(), CallError> {
        if acks.is_empty() || self.usable_sale().is_err() {
            return Ok(());
        }
        self.begin_writing()?;
        let rules = self.guards.scripts;
        if let Some((sale, _)) = self.writable() {
            sale.clear(&rules, acks);
        }
        Ok(())
    }

    pub(crate) fn settle(
        &mut self,
        epoch: Epoch,
        from: Offset,
        to: Offset,
        ops: &[(Offset, StockOp)],
    ) -> Result<SettleReply, CallError> {
        let rules = self.guards.scripts;
        let Ok(sale) = self.usable_sale() else {
            return Ok(SettleReply::NotServed);
        };
        if let Some(refusal) = sale.refuses_to_settle(&rules, epoch, from) {
            return Ok(refusal);
        }
        self.begin_writing()?;
        let Some((sale, _)) = self.writable() else {
            return Ok(SettleReply::NotServed);
        };
        Ok(sale.settle(&rules, to, ops))
    }

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

    /// The epoch in which this server may still grant units: it serves the sale and accepts writes.
    pub(crate) fn epoch_that_takes_writes(&self) -> Result<Option<Epoch>, CallError> {
        let Ok(sale) = self.usable_sale() else {
            return Ok(None);
        };
        let epoch = sale.epoch;
        self.begin_writing()?;
        Ok(Some(epoch))
    }

    /// The events that are pending for at least `older_than` ticks.
    pub(crate) fn outbox(&self, older_than: u64) -> Result<Outbox, Unusable> {
        let sale = self.usable_sale()?;
        let newest = scene::moment(self.now.saturating_sub(older_than));
        let pending_since = |pending: &PendingEvent| match pending {
            PendingEvent::Reservation(granted) => granted.reserved_at,
            PendingEvent::Shrink(taken) => taken.at,
        };
        let pending = sale.outbox.values();
        let old = pending.filter(|pending| pending_since(pending) <= newest);
        Ok((sale.epoch, old.cloned().collect()))
    }
}
