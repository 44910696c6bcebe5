//! The decisions of one sale on their way into Redis: from where this worker left it, or from where Redis says.

use std::sync::Arc;

use seckill_domain::{Offset, StockOp, VoucherId};
use seckill_stock::{Probe, SettleReply, StockError};

use super::{EffectsWorker, PAGE};
use crate::metrics;
use crate::partition::Seen;
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

impl EffectsWorker {
    /// Settles one sale's decisions up to `to`.
    pub(super) async fn settle(
        &mut self,
        voucher_id: VoucherId,
        ops: &[(Offset, StockOp)],
        to: Offset,
    ) -> Option<()> {
        if self.aside.contains(&voucher_id) {
            return Some(());
        }
        let Some(from) = self.chain.get(&voucher_id).copied() else {
            return self.settle_from_rows(voucher_id, to).await;
        };
        // A load may have put the sale ahead of what is carried out.
        if from >= to {
            return Some(());
        }
        let ops = &ops[ops.partition_point(|(offset, _)| *offset < from)..];
        match self.settle_in_chunks(voucher_id, from, ops, to).await? {
            Settled::Done | Settled::NotServed => Some(()),
            Settled::Gap => self.settle_from_rows(voucher_id, to).await,
        }
    }

    /// Asks Redis where the sale stands and settles from there, from the rows. A sale that Redis
    /// does not serve is left to its reload, which loads rows that have all of this.
    async fn settle_from_rows(&mut self, voucher_id: VoucherId, to: Offset) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        // If this ends early, no position may be kept that was never settled.
        self.chain.remove(&voucher_id);
        loop {
            let probe = self
                .ask(voucher_id, || shared.stock.probe(voucher_id))
                .await?;
            let Some(Probe::Open(view)) = probe else {
                return Some(());
            };
            if view.position >= to {
                self.chain.insert(voucher_id, view.position);
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
            let ops: Vec<_> = page
                .effects
                .into_iter()
                .filter_map(|effect| Some((effect.offset, effect.stock?)))
                .collect();
            let settled = self.settle_in_chunks(voucher_id, view.position, &ops, page.to);
            if matches!(settled.await?, Settled::NotServed) {
                return Some(());
            }
        }
    }

    async fn settle_in_chunks(
        &mut self,
        voucher_id: VoucherId,
        mut from: Offset,
        ops: &[(Offset, StockOp)],
        to: Offset,
    ) -> Option<Settled> {
        let shared = Arc::clone(&self.shared);
        let sale = until_done(&self.stop, &shared.health, "postgresql", || {
            shared.orderbook.sale(voucher_id)
        })
        .await?;
        // An order of a sale that was never scheduled: Redis cannot have it.
        let Some(epoch) = sale.map(|row| row.sale.epoch) else {
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
            let Some(reply) = self.ask(voucher_id, settle).await? else {
                return Some(Settled::NotServed);
            };
            match reply {
                SettleReply::Settled { position } => {
                    self.chain.insert(voucher_id, position);
                    from = end;
                }
                SettleReply::Gap { .. } => {
                    self.chain.remove(&voucher_id);
                    return Some(Settled::Gap);
                }
                SettleReply::NotServed => {
                    self.chain.remove(&voucher_id);
                    return Some(Settled::NotServed);
                }
            }
        }
        Some(Settled::Done)
    }

    /// Asks Redis until it answers, naming it in `/readyz` while it does not. Where the trouble is this
    /// sale's or its master's alone, the sale is set aside and gives `Some(None)`. `None` when stopped.
    async fn ask<T, F>(&mut self, voucher_id: VoucherId, ask: impl Fn() -> F) -> Option<Option<T>>
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
            // Its master did not answer a moment ago, so one call is enough.
            let asked_enough = attempts >= PATIENCE || !self.aside.is_empty();
            let of_one_sale = matches!(error, StockError::Protocol(_));
            if of_one_sale || (asked_enough && shared.stock.is_divided().await) {
                tracing::warn!(%voucher_id, %error, "sale set aside until Redis serves it again");
                metrics::EFFECTS_SET_ASIDE.only().increment(1);
                self.chain.remove(&voucher_id);
                self.aside.insert(voucher_id);
                return Some(None);
            }
            tracing::warn!(what = "redis", %error, "failed, trying again");
            shared.health.problem("redis", error.to_string());
            self.stop.run_until_cancelled(backed_off(attempts)).await?;
        }
    }

    /// A sale is open that this worker has not settled yet, or that stands behind what it settled:
    /// it was just loaded, or this worker just took over.
    pub(super) async fn catch_up(&mut self, sale: Seen) -> Option<()> {
        let known = self.chain.get(&sale.voucher_id);
        if known.is_some_and(|chain| sale.position >= *chain) {
            return Some(());
        }
        let to = self.position;
        self.aside.remove(&sale.voucher_id);
        self.settle_from_rows(sale.voucher_id, to).await
    }
}
