//! The effects of one partition: what the fold decided is settled in Redis and then published, in
//! the order of the log, from the rows.

mod settle;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use seckill_domain::{Effect, LogRef, Offset, StockOp, VoucherId};
use seckill_ephemeral::Key;
use seckill_eventlog::OutcomeRecord;
use seckill_orderbook::{AcceptedLog, EffectsPage, View};
use seckill_service::traces::{self, Kind, Span};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::settle::SaleTurn;
use crate::cached;
use crate::context::{ProjectorContext, wall_clock};
use crate::letters;
use crate::retry::until_done;
use crate::traces::Traces;

/// Effects read at a time.
const PAGE: usize = 1_000;
/// Sales that are settled at a time. Their calls share one connection, so that only their way to Redis and back is saved.
const SALES_AT_A_TIME: usize = 8;
/// How often the rows are read without a wake-up.
const FALLBACK: Duration = Duration::from_secs(1);

/// A sale that Redis serves, as the watch saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) voucher_id: VoucherId,
    pub(crate) position: Offset,
}

pub(crate) struct EffectsWorker {
    shared: Arc<ProjectorContext>,
    partition: i32,
    /// Everything below is settled and published.
    position: Offset,
    /// The number of the log that the position is one in.
    log_number: i32,
    /// The logs that the view has accepted.
    logs: Vec<AcceptedLog>,
    /// Where this worker's last settle of a sale ended: the next continues there. A sale that is
    /// not in here is asked for its own position first.
    chain: HashMap<VoucherId, Offset>,
    /// Sales whose master does not answer, or whose data the scripts cannot read, while others go on. They
    /// are not in `chain`: the watch tells of each sale that it sees open, here or in this worker's
    /// successor, and it is caught up from the rows, from the position that it has in Redis.
    aside: HashSet<VoucherId>,
    /// Entries of the cache that could not be dropped, for the same reason.
    stale: HashSet<Key>,
    traces: Traces,
    stop: CancellationToken,
}

impl EffectsWorker {
    pub(crate) fn new(
        shared: Arc<ProjectorContext>,
        partition: i32,
        traces: Traces,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared,
            partition,
            position: Offset::new(0),
            log_number: 0,
            logs: Vec::new(),
            chain: HashMap::new(),
            aside: HashSet::new(),
            stale: HashSet::new(),
            traces,
            stop,
        }
    }

    pub(crate) async fn run(
        mut self,
        mut folded: watch::Receiver<Offset>,
        mut seen: mpsc::Receiver<Seen>,
    ) {
        if self.begin().await.is_none() {
            return;
        }
        loop {
            if self.carry_out().await.is_none() || self.wait(&mut folded, &mut seen).await.is_none()
            {
                return;
            }
        }
    }

    /// Until there may be something to carry out. Sales that are seen meanwhile are caught up: each open sale
    /// is seen again and again, which is no reason to read the rows of the partition.
    async fn wait(
        &mut self,
        folded: &mut watch::Receiver<Offset>,
        seen: &mut mpsc::Receiver<Seen>,
    ) -> Option<()> {
        let fallback = tokio::time::sleep(FALLBACK);
        tokio::pin!(fallback);
        loop {
            tokio::select! {
                changed = folded.changed() => return changed.ok(),
                Some(sale) = seen.recv() => self.catch_up(sale).await?,
                () = &mut fallback => return self.look_back().await,
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// Takes the effects up where PostgreSQL says, in the log that it names.
    async fn begin(&mut self) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let (partition, topic) = (self.partition, &shared.topics.events);
        let start = until_done(&self.stop, &shared.health, "postgresql", || async {
            let fold = shared.fold_position(partition).await?;
            let effects = shared.position(partition, View::Effects).await?;
            let mut logs = shared.orderbook.accepted_logs(topic).await?;
            logs.retain(|log| log.partition == partition);
            let known = logs.last().map_or(0, |log| log.log.number);
            anyhow::ensure!(known == fold.log_number, "another log is accepted just now");
            // In a restored database, the position of the effects may be ahead of the position of the fold.
            Ok((effects.min(fold.next), fold.log_number, logs))
        });
        (self.position, self.log_number, self.logs) = start.await?;
        self.chain.clear();
        Some(())
    }

    /// The log that this record stands in.
    fn log_of(&self, offset: Offset) -> LogRef {
        let mut latest_first = self.logs.iter().rev();
        let own = latest_first.find(|log| log.from <= offset);
        own.map_or_else(LogRef::default, |log| log.log)
    }

    /// A restored database does not know which effects were carried out last, so they are carried out again.
    async fn look_back(&mut self) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let known = until_done(&self.stop, &shared.health, "postgresql", || {
            shared.position(self.partition, View::Effects)
        });
        self.position = self.position.min(known.await?);
        cached::drop_changed(&shared, &self.stop, &[], &mut self.stale).await
    }

    /// Carries out everything that is folded and not yet done; `None` when stopped.
    async fn carry_out(&mut self) -> Option<()> {
        let shared = Arc::clone(&self.shared);
        let topic = &shared.topics.events;
        loop {
            let (partition, from) = (self.partition, self.position);
            let page = until_done(&self.stop, &shared.health, "postgresql", || {
                shared.orderbook.effects_page(topic, partition, from, PAGE)
            })
            .await?;
            if page.log_number != self.log_number {
                self.begin().await?;
                continue;
            }
            if page.to <= self.position {
                return Some(());
            }
            self.settle(&page).await?;
            fail::fail_point!("projector.after-settle");
            let stale = &mut self.stale;
            cached::drop_changed(&shared, &self.stop, &page.effects, stale).await?;
            letters::publish(&shared, &self.stop, partition, &page.skipped).await?;
            self.publish(&page.effects).await?;
            fail::fail_point!("projector.after-outcomes");
            until_done(&self.stop, &shared.health, "postgresql", || {
                let (book, log_number) = (&shared.orderbook, self.log_number);
                book.move_effects(topic, partition, page.to, log_number)
            })
            .await?;
            self.position = page.to;
            self.traces.forget_before(page.to);
            shared.consumer.commit(self.partition, page.to);
        }
    }

    /// Settles a page in Redis, several sales at a time: each of them is a call of its own.
    async fn settle(&mut self, page: &EffectsPage) -> Option<()> {
        let mut by_sale: BTreeMap<VoucherId, Vec<(Offset, StockOp)>> = BTreeMap::new();
        for effect in &page.effects {
            if let Some(op) = &effect.stock {
                let ops = by_sale.entry(effect.voucher_id).or_default();
                ops.push((effect.offset, op.clone()));
            }
        }
        by_sale.retain(|sale, _| !self.aside.contains(sale));
        let sales: Vec<VoucherId> = by_sale.keys().copied().collect();
        let shared = Arc::clone(&self.shared);
        let epochs = until_done(&self.stop, &shared.health, "postgresql", || {
            shared.orderbook.epochs(&sales)
        })
        .await?;
        let some_are_aside = self.some_are_aside();
        let turns: Vec<_> = by_sale
            .iter()
            .map(|(sale, ops)| {
                let (mut turn, epoch) =
                    (self.turn(*sale, &some_are_aside), epochs.get(sale).copied());
                async move {
                    let began = SystemTime::now();
                    turn.settle(epoch, ops, page.to).await?;
                    Some((turn, ops, began))
                }
            })
            .collect();
        let mut turns = stream::iter(turns).buffer_unordered(SALES_AT_A_TIME);
        while let Some(turn) = turns.next().await {
            let (turn, ops, began) = turn?;
            self.trace_settled(turn.voucher_id, ops, began);
            self.keep(&turn);
            fail::fail_point!("projector.between-effects");
        }
        Some(())
    }

    fn some_are_aside(&self) -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(!self.aside.is_empty()))
    }

    fn turn(&self, voucher_id: VoucherId, some_are_aside: &Arc<AtomicBool>) -> SaleTurn {
        SaleTurn {
            shared: Arc::clone(&self.shared),
            partition: self.partition,
            stop: self.stop.clone(),
            voucher_id,
            chain: self.chain.get(&voucher_id).copied(),
            is_aside: false,
            some_are_aside: Arc::clone(some_are_aside),
        }
    }

    /// Notes where a sale's turn has ended.
    fn keep(&mut self, turn: &SaleTurn) {
        match turn.chain {
            Some(position) => self.chain.insert(turn.voucher_id, position),
            None => self.chain.remove(&turn.voucher_id),
        };
        if turn.is_aside {
            self.aside.insert(turn.voucher_id);
        }
    }

    /// A sale is open that this worker has not settled yet, or that stands behind what it settled:
    /// it was just loaded, or this worker just took over.
    async fn catch_up(&mut self, sale: Seen) -> Option<()> {
        let known = self.chain.get(&sale.voucher_id);
        if known.is_some_and(|chain| sale.position >= *chain) {
            return Some(());
        }
        self.aside.remove(&sale.voucher_id);
        let mut turn = self.turn(sale.voucher_id, &self.some_are_aside());
        turn.settle_from_rows(self.position).await?;
        self.keep(&turn);
        Some(())
    }

    fn trace_settled(&self, sale: VoucherId, ops: &[(Offset, StockOp)], began: SystemTime) {
        let causes = self.traces.wanted(ops.iter().map(|(offset, _)| *offset));
        for cause in &causes {
            Span::new(
                "settle",
                Kind::Client,
                traces::child(*cause),
                Some(*cause),
                began,
            )
            .with("db.system.name", "redis")
            .with("db.operation.batch.size", ops.len() as i64)
            .with("seckill.voucher_id", sale.get())
            .linked(causes.iter().copied())
            .end();
        }
    }

    /// Publishes outcomes, and waits until the brokers have acknowledged all of them.
    async fn publish(&self, effects: &[Effect]) -> Option<()> {
        fail::fail_point!("projector.before-outcomes");
        let shared = &self.shared;
        let now = wall_clock();
        until_done(&self.stop, &shared.health, "outcomes", || async {
            let mut deliveries = Vec::with_capacity(effects.len());
            for effect in effects {
                let log = self.log_of(effect.offset);
                let outcome = OutcomeRecord::new(effect, self.partition, log, now);
                let cause = self.traces.of(effect.offset);
                let context = cause.filter(|cause| traces::wants(*cause));
                let context = context.map(traces::child);
                let span = context.zip(cause).map(|(context, cause)| {
                    let began = SystemTime::now();
                    let name = format!("publish {}", outcome.name());
                    let span = Span::new(name, Kind::Producer, context, Some(cause), began)
                        .with("messaging.system", "kafka")
                        .with("messaging.message.id", outcome.event_id.to_string());
                    Box::new(span)
                });
                let sent = shared.producer.send_outcome(&outcome, context.or(cause));
                deliveries.push((sent?, span));
            }
            for (delivery, span) in deliveries {
                delivery.await?;
                span.into_iter().for_each(|span: Box<Span>| span.end());
            }
            anyhow::Ok(())
        })
        .await
    }
}
