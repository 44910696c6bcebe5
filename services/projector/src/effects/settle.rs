//! The decisions of one sale on their way into Redis: from where this worker left it, or from where Redis says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use seckill_domain::{Epoch, Offset, StockOp, VoucherId};
use seckill_stock::{Probe, SettleReply, StockError};
use tokio_util::sync::CancellationToken;

use super::PAGE;
use crate::context::ProjectorContext;
use crate::metrics;
use crate::retry::{backed_off, until_done};

/// Decisions in one script call.
const SETTLE_MAX: usize = 500;
/// How often one of several masters is called before its sales are skipped.
const PATIENCE: u32 = 3;

enum Settled {
    /// Redis has everything.
    Done,
    /// Redis does not serve the sale: its load will bring this.
    NotServed,
    /// Redis stands before where this worker continued.
    Gap,
}

/// One sale that is settled, beside others. If this is dropped before its end, nothing of it is known: the same
/// decisions are settled again, which changes nothing.
pub(super) struct SaleTurn {
    pub(super) shared: Arc<ProjectorContext>,
    pub(super) partition: i32,
    pub(super) stop: CancellationToken,
    pub(super) voucher_id: VoucherId,
    /// Where this worker's last settle of the sale ended; none if Redis has to be asked.
    pub(super) chain: Option<Offset>,
    /// Whether the sale is to be set aside: its master does not answer while others do, or its data cannot be read.
    pub(super) is_aside: bool,
    /// Whether any sale is. A master did not answer a moment ago, so one call is enough.
    pub(super) some_are_aside: Arc<AtomicBool>,
}

impl SaleTurn {
    /// Settles the sale's decisions up to `to`. `epoch` is PostgreSQL's.
    pub(super) async fn settle(
        &mut self,
        epoch: Option<Epoch>,
        ops: &[(Offset, StockOp)],
        to: Offset,
    ) -> Option<()> {
        let Some(from) = self.chain else {
            return self.settle_from_rows(to).await;
        };
        // A load may have put the sale ahead of what is carried out.
        if from >= to {
            return Some(());
        }
        let ops = &ops[ops.partition_point(|(offset, _)| *offset < from)..];
        match self.settle_in_chunks(epoch, from, ops, to).await? {
            Settled::Done | Settled::NotServed => Some(()),
            Settled::Gap => self.settle_from_rows(to).await,
        }
    }

    /// Asks Redis where the sale stands and settles from there, from the rows. A sale that Redis
    /// does not serve is left to its reload, which loads rows that have all of this.
    pub(super) async fn settle_from_rows(&mut self, to: Offset) -> Option<()> {
        let (shared, voucher_id) = (Arc::clone(&self.shared), self.voucher_id);
        self.chain = None;
        loop {
            let probe = self.ask(|| shared.stock.probe(voucher_id)).await?;
            let Some(Probe::Open(view)) = probe else {
                return Some(());
            };
            if view.position >= to {
                self.chain = Some(view.position);
                return Some(());
            }
            let (topic, partition) = (&shared.topics.events, self.partition);
            let page = until_done(&self.stop, &shared.health, "postgresql", || {
                let (book, from) = (&shared.orderbook, view.position);
                book.effects_of_voucher(topic, partition, voucher_id, from, Some(to), PAGE)
            })
            .await?;
            if page.to <= view.position {
                return Some(());
            }
            let own = [voucher_id];
            let epochs = until_done(&self.stop, &shared.health, "postgresql", || {
                shared.orderbook.epochs(&own)
            });
            let epoch = epochs.await?.remove(&voucher_id);
            let ops: Vec<_> = page
                .effects
                .into_iter()
                .filter_map(|effect| Some((effect.offset, effect.stock?)))
                .collect();
            let settled = self.settle_in_chunks(epoch, view.position, &ops, page.to);
            if matches!(settled.await?, Settled::NotServed) {
                return Some(());
            }
        }
    }

    async fn settle_in_chunks(
        &mut self,
        epoch: Option<Epoch>,
        mut from: Offset,
        ops: &[(Offset, StockOp)],
        to: Offset,
    ) -> Option<Settled> {
        let (shared, voucher_id) = (Arc::clone(&self.shared), self.voucher_id);
        // An order of a sale that was never scheduled: Redis cannot have it.
        let Some(epoch) = epoch else {
            return Some(Settled::NotServed);
        };
        let chunks = ops.chunks(SETTLE_MAX).chain(ops.is_empty().then_some(ops));
        let mut left = ops.len();
        for chunk in chunks {
            left -= chunk.len();
            let end = match chunk.last() {
                Some((offset, _)) if left > 0 => offset.next(),
                _ => to,
            };
            let settle = || shared.stock.settle(voucher_id, epoch, from, end, chunk);
            let Some(reply) = self.ask(settle).await? else {
                return Some(Settled::NotServed);
            };
            match reply {
                SettleReply::Settled { position } => {
                    self.chain = Some(position);
                    from = end;
                }
                SettleReply::Gap { .. } => {
                    self.chain = None;
                    return Some(Settled::Gap);
                }
                SettleReply::NotServed => {
                    self.chain = None;
                    return Some(Settled::NotServed);
                }
            }
        }
        Some(Settled::Done)
    }

    /// Asks Redis until it answers, naming it in `/readyz` while it does not. Where the trouble is this
    /// sale's or its master's alone, the sale is set aside and gives `Some(None)`. `None` when stopped.
    async fn ask<T, F>(&mut self, ask: impl Fn() -> F) -> Option<Option<T>>
    where
        F: Future<Output = Result<T, StockError>>,
    {
        let shared = Arc::clone(&self.shared);
        let mut attempts = 0;
        loop {
            let error = match self.stop.run_until_cancelled(ask()).await? {
                Ok(answer) => {
                    shared.health.resolved("redis");
                    return Some(Some(answer));
                }
                Err(error) => error,
            };
            attempts += 1;
            let asked_enough = attempts >= PATIENCE || self.some_are_aside.load(Ordering::Relaxed);
            let of_one_sale = matches!(error, StockError::Protocol(_));
            if of_one_sale || (asked_enough && shared.stock.is_divided().await) {
                tracing::warn!(voucher_id = %self.voucher_id, %error, "sale set aside until Redis serves it again");
                metrics::EFFECTS_SET_ASIDE.only().increment(1);
                self.chain = None;
                self.is_aside = true;
                self.some_are_aside.store(true, Ordering::Relaxed);
                return Some(None);
            }
            tracing::warn!(what = "redis", %error, "failed, trying again");
            shared.health.problem("redis", error.to_string());
            self.stop.run_until_cancelled(backed_off(attempts)).await?;
        }
    }
}
