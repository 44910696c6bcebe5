//! Loads a sale from PostgreSQL into a Redis that has lost it, or never had it.
//!
//! The steps are: claim, drain, a new epoch in the log, load, open. A load that another one has overtaken finds its
//! claim gone or its epoch refused, and changes nothing. The first load of a new sale needs no drain, because nothing
//! can have been granted.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use seckill_domain::{Epoch, Event, EventBody, EventId, SaleReloaded};
use seckill_orderbook::{Leaving, LoadOrder, LoadSnapshot, ServedSale};
use seckill_service::clock::BootInstant;
use seckill_stock::{
    ClaimReply, LoadHold, LoadReply, LoadShrink, OpenReply, OutboxCursor, PendingEvent,
    StockConnection,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::context::{ProjectorContext, wall_clock};

/// Holds, or pending events, in one script call.
const CHUNK: usize = 500;
/// How long a new epoch may take from its append to the fold.
const VERDICT_DEADLINE: Duration = Duration::from_secs(30);
const VERDICT_PERIOD: Duration = Duration::from_millis(20);
const VERDICT_PERIOD_MAX: Duration = Duration::from_millis(200);
/// Added to the promise deadline: how much the clocks of two processes may differ.
const DRAIN_MARGIN: Duration = Duration::from_millis(50);

/// The result of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The sale is open.
    Opened,
    /// The sale is over and nothing of it was pending: it was not loaded, and has left Redis for good.
    Retired,
    /// Another deployment has loaded a sale of this number into this Redis: it stays as it is.
    OtherLog,
    /// Another load has claimed the sale, opened it, or begun the epoch.
    Overtaken,
    /// The partition was lost.
    Stopped,
}

pub(crate) struct Reload {
    shared: Arc<ProjectorContext>,
    sale: ServedSale,
    nonce: Uuid,
    stop: CancellationToken,
}

impl Reload {
    pub(crate) fn new(
        shared: Arc<ProjectorContext>,
        sale: ServedSale,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            sale,
            nonce: Uuid::new_v4(),
            stop,
        }
    }

    pub(crate) async fn run(self) -> anyhow::Result<Ended> {
        let stop = self.stop.clone();
        tokio::select! {
            ended = self.steps() => ended,
            () = stop.cancelled() => Ok(Ended::Stopped),
        }
    }

    async fn steps(&self) -> anyhow::Result<Ended> {
        let voucher_id = self.sale.voucher_id;
        let orderbook = &self.shared.loads;
        let started = BootInstant::now();
        let redis = self.shared.stock.connection_for(voucher_id).await?;
        let first = !self.sale.loaded && orderbook.mark_loaded(voucher_id).await?;
        fail::fail_point!("projector.reload.after-mark");
        // Read before the claim: a reload that opens in between has a later epoch, and then the
        // fold does not accept ours.
        let row = orderbook
            .sale(voucher_id)
            .await?
            .context("the sale has no row")?;
        let epoch = row.sale.epoch;
        let promised_under = match redis.claim(voucher_id, self.nonce, epoch).await? {
            ClaimReply::Live => return Ok(Ended::Overtaken),
            ClaimReply::OtherLog => return Ok(Ended::OtherLog),
            ClaimReply::Claimed { promised_under } => promised_under,
        };
        tracing::info!(%voucher_id, epoch = epoch.get(), first, "loading sale");
        fail::fail_point!("projector.reload.after-claim");
        if !first {
            let cut_off_after = redis.cut_off_after().await?;
            // An instance may still use the deadline of the projector that loaded the sale before.
            let own = self.shared.config.promise_deadline;
            let deadline = own.max(promised_under.unwrap_or_default());
            drain(deadline + cut_off_after + DRAIN_MARGIN).await;
        }
        fail::fail_point!("projector.reload.after-drain");
        // A master that was cut off when it took the claim has stopped taking writes meanwhile. The
        // sale may be open on another, in this very epoch, which ours would end.
        if redis.renew(voucher_id, self.nonce).await? == LoadReply::Lost {
            return Ok(Ended::Overtaken);
        }
        // The first load too: another projector may have taken the partition over and loaded the
        // sale while this one stood still, and only the log knows which of the two came first.
        self.begin_epoch(epoch, first).await?;
        fail::fail_point!("projector.reload.after-append");
        if !self.accepted().await? {
            return Ok(Ended::Overtaken);
        }
        let ended = self.load(&redis, epoch).await?;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(%voucher_id, ?ended, took_ms, "load ended");
        Ok(ended)
    }

    /// Appends the new epoch. An append of unknown outcome is repeated: the fold takes a nonce once.
    async fn begin_epoch(&self, previous: Epoch, first: bool) -> anyhow::Result<()> {
        let event = Event {
            event_id: EventId::from_uuid(Uuid::now_v7()),
            voucher_id: self.sale.voucher_id,
            occurred_at: wall_clock(),
            body: EventBody::SaleReloaded(SaleReloaded {
                previous,
                epoch: previous.next(),
                nonce: self.nonce,
                first: Some(first),
            }),
        };
        let mut last = None;
        for _ in 0..3 {
            let delivery = self.shared.producer.send_event(&event, None)?;
            match delivery.await {
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
        }
        let error = last.context("no attempt was made")?;
        Err(anyhow::Error::new(error).context("the new epoch was not acknowledged"))
    }

    /// Waits until the fold has decided on the new epoch.
    async fn accepted(&self) -> anyhow::Result<bool> {
        let started = BootInstant::now();
        let mut period = VERDICT_PERIOD;
        loop {
            let verdict = self
                .shared
                .loads
                .reload_verdict(self.sale.voucher_id, self.nonce)
                .await?;
            if let Some(accepted) = verdict {
                return Ok(accepted);
            }
            anyhow::ensure!(
                started.elapsed() < VERDICT_DEADLINE,
                "the fold has not reached the new epoch"
            );
            tokio::time::sleep(period).await;
            // Many sales may wait at the same time.
            period = (period * 3 / 2).min(VERDICT_PERIOD_MAX);
        }
    }

    /// Loads one snapshot and opens the sale. Decisions that the fold makes meanwhile are settled
    /// after it, from the snapshot's position on.
    async fn load(&self, redis: &StockConnection, previous: Epoch) -> anyhow::Result<Ended> {
        let voucher_id = self.sale.voucher_id;
        let _permit = self.shared.load_permits.acquire().await?;
        let topic = &self.shared.topics.events;
        let snapshot = self.shared.loads.load_snapshot(topic, voucher_id).await?;
        // Retired meanwhile, or in a later epoch: another load has come and gone.
        let Some(mut snapshot) = snapshot.filter(|s| s.sale().epoch == previous.next()) else {
            return Ok(Ended::Overtaken);
        };
        if snapshot.can_retire() && self.nothing_pending(redis, previous, &mut snapshot).await? {
            return self.retire(redis, &snapshot).await;
        }
        let (sale, position) = (snapshot.sale(), snapshot.position());
        let deadline = self.shared.config.promise_deadline;
        let begun = redis.load_begin(self.nonce, sale, position, deadline);
        if begun.await? == LoadReply::Lost
            || self.load_orders(redis, &mut snapshot).await? == LoadReply::Lost
            || self.load_shrinks(redis, &mut snapshot).await? == LoadReply::Lost
            || self.grant_again(redis, previous, &mut snapshot).await? == LoadReply::Lost
        {
            return Ok(Ended::Overtaken);
        }
        drop(snapshot);
        fail::fail_point!("projector.reload.before-open");
        match redis.open(voucher_id, self.nonce).await? {
            OpenReply::Opened => Ok(Ended::Opened),
            OpenReply::Lost => Ok(Ended::Overtaken),
        }
    }

    async fn load_orders(
        &self,
        redis: &StockConnection,
        snapshot: &mut LoadSnapshot,
    ) -> anyhow::Result<LoadReply> {
        let mut orders = snapshot.next_orders(CHUNK).await?;
        while !orders.is_empty() {
            let hold = |load: &LoadOrder| LoadHold::of(&load.order, load.is_earlier);
            let holds: Vec<LoadHold> = orders.iter().map(hold).collect();
            // PostgreSQL reads the next page while Redis stores this one.
            let loading = redis.load_holds(self.sale.voucher_id, self.nonce, &holds);
            let (loaded, next) = tokio::join!(loading, snapshot.next_orders(CHUNK));
            if loaded? == LoadReply::Lost {
                return Ok(LoadReply::Lost);
            }
            orders = next?;
            fail::fail_point!("projector.reload.between-chunks");
        }
        Ok(LoadReply::Loaded)
    }

    async fn load_shrinks(
        &self,
        redis: &StockConnection,
        snapshot: &mut LoadSnapshot,
    ) -> anyhow::Result<LoadReply> {
        let decided = snapshot.decided_shrinks().await?.into_iter();
        let shrinks: Vec<_> = decided
            .map(|(event_id, units)| LoadShrink { event_id, units })
            .collect();
        for chunk in shrinks.chunks(CHUNK) {
            let loading = redis.load_shrinks(self.sale.voucher_id, self.nonce, chunk);
            if loading.await? == LoadReply::Lost {
                return Ok(LoadReply::Lost);
            }
        }
        Ok(LoadReply::Loaded)
    }

    /// A sale that is over needs no place in Redis. Redis first: when this dies in between, the next look
    /// begins one more epoch and comes here again.
    async fn retire(
        &self,
        redis: &StockConnection,
        snapshot: &LoadSnapshot,
    ) -> anyhow::Result<Ended> {
        let leaving = Leaving {
            voucher_id: self.sale.voucher_id,
            epoch: snapshot.sale().epoch,
            position: snapshot.position(),
        };
        let discarded = redis.discard(leaving.voucher_id, self.nonce, leaving.epoch);
        if discarded.await? == LoadReply::Lost {
            return Ok(Ended::Overtaken);
        }
        let topic = &self.shared.topics.events;
        if self.shared.loads.mark_retired(topic, &leaving).await? {
            return Ok(Ended::Retired);
        }
        Ok(Ended::Overtaken)
    }

    /// Whether nothing is left of the old data that a load would grant again; false also if the claim is
    /// lost.
    async fn nothing_pending(
        &self,
        redis: &StockConnection,
        previous: Epoch,
        snapshot: &mut LoadSnapshot,
    ) -> anyhow::Result<bool> {
        let mut cursor = Some(OutboxCursor::START);
        while let Some(at) = cursor {
            match self.unknown_pending(redis, previous, snapshot, at).await? {
                Some((pending, next)) if pending.is_empty() => cursor = next,
                Some(_) | None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Pending events that the old data still has, and the log at the snapshot has not, are
    /// granted again under the new epoch while stock lasts.
    async fn grant_again(
        &self,
        redis: &StockConnection,
        previous: Epoch,
        snapshot: &mut LoadSnapshot,
    ) -> anyhow::Result<LoadReply> {
        let mut cursor = Some(OutboxCursor::START);
        while let Some(at) = cursor {
            let page = self.unknown_pending(redis, previous, snapshot, at).await?;
            let Some((pending, next)) = page else {
                return Ok(LoadReply::Lost);
            };
            for chunk in pending.chunks(CHUNK) {
                let granted = redis.regrant(self.sale.voucher_id, self.nonce, chunk);
                if granted.await? == LoadReply::Lost {
                    return Ok(LoadReply::Lost);
                }
            }
            cursor = next;
        }
        Ok(LoadReply::Loaded)
    }

    /// A page of what was pending and is not in the log, and where to go on; none if the claim is lost.
    /// Without the events of an epoch that had ended before: their buyers may have been told that the
    /// order failed.
    async fn unknown_pending(
        &self,
        redis: &StockConnection,
        previous: Epoch,
        snapshot: &mut LoadSnapshot,
        cursor: OutboxCursor,
    ) -> anyhow::Result<Option<(Vec<PendingEvent>, Option<OutboxCursor>)>> {
        let page = redis.old_outbox(self.sale.voucher_id, self.nonce, cursor);
        let Some(mut page) = page.await? else {
            return Ok(None);
        };
        let ids: Vec<Uuid> = page.entries.iter().map(|entry| entry.ack().id).collect();
        let known: HashSet<Uuid> = snapshot.known(&ids).await?;
        page.entries.retain(|entry| {
            let ack = entry.ack();
            ack.epoch >= previous && !known.contains(&ack.id)
        });
        Ok(Some((page.entries, page.next)))
    }
}

/// Waits until no grant of before, or of a master that was cut off and has not noticed, can become a
/// promise any more, by a clock that runs on while this process is stopped.
async fn drain(for_at_least: Duration) {
    let started = BootInstant::now();
    loop {
        let left = for_at_least.saturating_sub(started.elapsed());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}
