//! Loading a sale that Redis does not have, or has under another fence or of an earlier epoch; and
//! removing a sale. The calls of one load share a nonce and a connection. Stop at the first reply *lost*.

use std::time::Duration;

use redis::Cmd;
use seckill_domain::{Epoch, Offset, Sale, TraceParent, VoucherId};
use uuid::Uuid;

use crate::calls::keys::{LoadKeys, SaleKeys};
use crate::calls::load_items::{HoldPlace, LoadHold, LoadShrink};
use crate::calls::pending::PendingEvent;
use crate::calls::stock::Stock;
use crate::calls::view::{OutboxCursor, OutboxPage};
use crate::redis::connection::StockConnection;
use crate::redis::error::StockError;
use crate::redis::reply::{NONE, key_hash_text};
use crate::redis::script::{MAX_ITEMS, Script};

/// An abandoned claim or load expires after this time; each call of a load starts the time again.
const ABANDONED_AFTER_SECONDS: u32 = 600;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimReply {
    /// The sale is in use here, of this epoch or a later one: there is nothing to load.
    Live,
    /// Another deployment, with a log of its own, has loaded this sale here: nothing was changed.
    OtherLog,
    /// The sale is shut, and this load is the one that may open it.
    Claimed {
        /// The promise deadline under which the sale that is there was loaded, if one is: some
        /// instance may still promise under it.
        promised_under: Option<Duration>,
    },
}

/// The answer to a part of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadReply {
    /// Another load has claimed the sale, or this one was forgotten: begin again with a claim.
    Lost,
    /// Done.
    Loaded,
}

/// The answer to the end of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenReply {
    /// Another load has claimed the sale or opened it.
    Lost,
    /// The sale is in use.
    Opened,
}

impl Stock {
    /// Removes a sale from Redis that is closed, or whose window is over by Redis' clock, if nothing is
    /// unsettled or pending and every decision below `position` is settled. Returns the position that it
    /// had, or none if the sale was kept. The caller has to check that no unpaid orders are left, and that
    /// PostgreSQL has reached that position.
    ///
    /// # Errors
    /// As any call.
    pub async fn retire(
        &self,
        voucher: VoucherId,
        position: Offset,
    ) -> Result<Option<Offset>, StockError> {
        let connection = self.connection_for(voucher).await?;
        let keys = SaleKeys::of(connection.prefix(), voucher);
        let mut cmd =
            connection.invocation(Script::Retire, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(position.get());
        let mut reply = connection.run(&cmd).await?;
        match reply.answer() {
            "ok" => reply.offset().map(Some),
            "kept" => Ok(None),
            _ if reply.is_not_served() => Ok(None),
            _ => Err(reply.unexpected()),
        }
    }
}

impl StockConnection {
    /// Begins a load. `epoch` is that of PostgreSQL. A sale that is in use in this epoch or a later one stays
    /// as it is; any other is shut. A claim replaces any earlier claim.
    ///
    /// # Errors
    /// As any call.
    pub async fn claim(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        epoch: Epoch,
    ) -> Result<ClaimReply, StockError> {
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut cmd = self.invocation(
            Script::Claim,
            &[&keys.sale, &keys.holds, &keys.outbox, &keys.claim],
        );
        cmd.arg(nonce.to_string())
            .arg(epoch.get())
            .arg(ABANDONED_AFTER_SECONDS);
        let mut reply = self.run(&cmd).await?;
        match reply.answer() {
            "live" => Ok(ClaimReply::Live),
            "other_log" => Ok(ClaimReply::OtherLog),
            "claimed" => {
                let millis: u64 = reply.parse()?;
                let promised_under = (millis > 0).then(|| Duration::from_millis(millis));
                Ok(ClaimReply::Claimed { promised_under })
            }
            _ => Err(reply.unexpected()),
        }
    }

    /// Writes the claim again before the load begins. The reply says whether the claim still belongs to
    /// this load; an error says that this server accepts no writes.
    ///
    /// # Errors
    /// As any call.
    pub async fn renew(&self, voucher: VoucherId, nonce: Uuid) -> Result<LoadReply, StockError> {
        self.load(&self.chunk(voucher, nonce, "renew")).await
    }

    /// A page of the pending events that the shut sale still has, of any age, for
    /// [`Self::regrant`]. To be read after the drain. None: the claim is lost.
    ///
    /// # Errors
    /// As any call.
    pub async fn old_outbox(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        cursor: OutboxCursor,
    ) -> Result<Option<OutboxPage>, StockError> {
        self.outbox_page(voucher, Some(nonce), cursor, 0).await
    }

    /// Begins the new contents, beside the old: the sale's numbers as PostgreSQL has them at
    /// `position`, in the same snapshot as the holds. Nobody may promise an order of it later than
    /// `promise_deadline` after asking for it.
    ///
    /// # Errors
    /// As any call.
    pub async fn load_begin(
        &self,
        nonce: Uuid,
        sale: &Sale,
        position: Offset,
        promise_deadline: Duration,
    ) -> Result<LoadReply, StockError> {
        let terms = &sale.terms;
        let hold_us = i64::from(terms.hold_seconds) * MICROS_PER_SECOND;
        let state = if sale.closed.is_some() {
            "closed"
        } else {
            "open"
        };
        let mut cmd = self.chunk(sale.voucher_id, nonce, "begin");
        cmd.arg(("stock", sale.available))
            .arg(("price_cents", terms.price.cents()))
            .arg(("currency", terms.price.currency().as_str()))
            .arg(("max_quantity", terms.max_quantity))
            .arg(("opens_us", terms.opens_at.as_micros()))
            .arg(("closes_us", terms.closes_at.as_micros()))
            .arg(("hold_us", hold_us))
            .arg(("promise_ms", millis(promise_deadline)))
            .arg(("sale_token", u8::from(terms.requires_sale_token)))
            .arg(("epoch", sale.epoch.get()))
            .arg(("pos", position.get()))
            .arg(("state", state));
        self.load(&cmd).await
    }

    /// Adds up to [`MAX_ITEMS`] users' orders. Those without a key that are [`HoldPlace::Earlier`] mean
    /// nothing, and are left out.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more.
    pub async fn load_holds(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        holds: &[LoadHold],
    ) -> Result<LoadReply, StockError> {
        if holds.len() > MAX_ITEMS {
            return Err(StockError::too_many("holds"));
        }
        let mut cmd = self.chunk(voucher, nonce, "holds");
        for hold in holds {
            let state = match hold.place {
                HoldPlace::Live => "s",
                HoldPlace::Released => "r",
                HoldPlace::Earlier if hold.key_hash.is_none() => continue,
                HoldPlace::Earlier => "k",
            };
            cmd.arg(hold.user_id.get())
                .arg(hold.order_id.to_string())
                .arg(hold.quantity)
                .arg(state)
                .arg(key_hash_text(hold.key_hash))
                .arg(hold.pay_by.as_micros())
                .arg(hold.reserved_at.as_micros());
        }
        self.load(&cmd).await
    }

    /// Adds up to [`MAX_ITEMS`] shrinks that the log has decided.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more.
    pub async fn load_shrinks(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        shrinks: &[LoadShrink],
    ) -> Result<LoadReply, StockError> {
        if shrinks.len() > MAX_ITEMS {
            return Err(StockError::too_many("shrinks"));
        }
        let mut cmd = self.chunk(voucher, nonce, "shrinks");
        for shrink in shrinks {
            // The time at which it was taken is needed only until it is decided.
            cmd.arg(shrink.event_id.to_string())
                .arg(shrink.units)
                .arg(0);
        }
        self.load(&cmd).await
    }

    /// Grants up to [`MAX_ITEMS`] pending events of the old contents again, in order, after all
    /// holds: under the new epoch, while stock lasts, and only to users without a live hold. The
    /// caller leaves out what PostgreSQL knows already.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more.
    pub async fn regrant(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        pending: &[PendingEvent],
    ) -> Result<LoadReply, StockError> {
        if pending.len() > MAX_ITEMS {
            return Err(StockError::too_many("pending events"));
        }
        let mut cmd = self.chunk(voucher, nonce, "regrant");
        for event in pending {
            add_pending(&mut cmd, event);
        }
        self.load(&cmd).await
    }

    /// Ends the load: the new contents take the place of the old, and the sale is in use.
    ///
    /// # Errors
    /// As any call. After a time-out the sale may be open: begin again with a claim, which says so.
    pub async fn open(&self, voucher: VoucherId, nonce: Uuid) -> Result<OpenReply, StockError> {
        let cmd = self.end_of_load(Script::Open, voucher, nonce);
        let reply = self.run(&cmd).await?;
        match reply.answer() {
            "lost" => Ok(OpenReply::Lost),
            "ok" => Ok(OpenReply::Opened),
            _ => Err(reply.unexpected()),
        }
    }

    /// Ends the load of a sale that is over, which began `epoch`: nothing of it stays in Redis. *Lost* as for
    /// [`Self::open`].
    ///
    /// # Errors
    /// As any call.
    pub async fn discard(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
        epoch: Epoch,
    ) -> Result<LoadReply, StockError> {
        let mut cmd = self.end_of_load(Script::Discard, voucher, nonce);
        cmd.arg(epoch.get());
        self.load(&cmd).await
    }

    fn end_of_load(&self, script: Script, voucher: VoucherId, nonce: Uuid) -> Cmd {
        let now = SaleKeys::of(self.prefix(), voucher);
        let new = LoadKeys::of(self.prefix(), voucher, nonce);
        let keys = [
            &*now.sale,
            &*now.holds,
            &*now.outbox,
            &*now.claim,
            &*new.sale,
            &*new.holds,
            &*new.outbox,
        ];
        let mut cmd = self.invocation(script, &keys);
        cmd.arg(nonce.to_string());
        cmd
    }

    fn chunk(&self, voucher: VoucherId, nonce: Uuid, kind: &str) -> Cmd {
        let claim = SaleKeys::of(self.prefix(), voucher).claim;
        let new = LoadKeys::of(self.prefix(), voucher, nonce);
        let keys = [&*claim, &*new.sale, &*new.holds, &*new.outbox];
        let mut cmd = self.invocation(Script::LoadChunk, &keys);
        cmd.arg(nonce.to_string())
            .arg(ABANDONED_AFTER_SECONDS)
            .arg(kind);
        cmd
    }

    async fn load(&self, chunk: &Cmd) -> Result<LoadReply, StockError> {
        let reply = self.run(chunk).await?;
        match reply.answer() {
            "lost" => Ok(LoadReply::Lost),
            "ok" => Ok(LoadReply::Loaded),
            _ => Err(reply.unexpected()),
        }
    }
}

/// Adds the eight arguments of a pending event.
fn add_pending(cmd: &mut Cmd, event: &PendingEvent) {
    match event {
        PendingEvent::Reservation(reservation) => {
            let traceparent = reservation.traceparent.as_ref();
            cmd.arg(reservation.order_id.to_string())
                .arg(reservation.reserved_at.as_micros())
                .arg(reservation.event_id.to_string())
                .arg(reservation.user_id.get())
                .arg(reservation.quantity)
                .arg(reservation.pay_by.as_micros())
                .arg(key_hash_text(reservation.key_hash))
                .arg(traceparent.map_or(NONE, TraceParent::as_str));
        }
        PendingEvent::Shrink(shrink) => {
            cmd.arg(shrink.event_id.to_string())
                .arg(shrink.at.as_micros())
                .arg(&[NONE, NONE])
                .arg(shrink.units)
                .arg(&[NONE, NONE, NONE]);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
