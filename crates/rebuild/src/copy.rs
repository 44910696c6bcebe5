//! Filling the copy: first up to fixed ends at full speed, then following the live fold.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;
use seckill_domain::{LogBatch, Offset};
use seckill_orderbook::{Orderbook, Shadow, ShadowFold, View};
use tokio::task::JoinSet;

use crate::{EventFeed, RebuildError};

/// What the live fold has folded is in the log, so it will be read soon.
pub(crate) const FEED_PATIENCE: Duration = Duration::from_secs(30);
/// How far behind the live fold the copy may be.
const NEAR_OFFSETS: u64 = 300;

/// How far a load has come, in offsets of the log.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
}

impl Progress {
    /// Offsets that are folded, of all partitions together.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Tables beside the live ones, with the feeds that they are folded from.
#[derive(Debug)]
pub struct Copy<F> {
    pub(crate) shadow: Shadow,
    pub(crate) live: Orderbook,
    topic: String,
    lanes: Vec<CopyLane<F>>,
    progress: Arc<Progress>,
}

/// One partition.
#[derive(Debug)]
struct CopyLane<F> {
    fold: ShadowFold,
    feed: F,
    /// The part of the last batch that is beyond the end of the last fold.
    pending: Option<LogBatch>,
}

impl<F: EventFeed> Copy<F> {
    /// `feeds` has one feed for each fold, in any order. Each begins at the position of its fold.
    #[must_use]
    pub fn new(
        shadow: Shadow,
        live: Orderbook,
        topic: &str,
        folds: Vec<ShadowFold>,
        feeds: Vec<F>,
    ) -> Self {
        let mut feeds: HashMap<i32, F> = feeds.into_iter().map(|f| (f.partition(), f)).collect();
        let lane = |fold: ShadowFold| {
            let feed = feeds.remove(&fold.partition())?;
            Some(CopyLane {
                fold,
                feed,
                pending: None,
            })
        };
        Self {
            shadow,
            live,
            topic: topic.to_owned(),
            lanes: folds.into_iter().filter_map(lane).collect(),
            progress: Arc::default(),
        }
    }

    /// How far [`Self::load`] has come.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    #[must_use]
    pub const fn shadow(&self) -> &Shadow {
        &self.shadow
    }

    /// Folds every partition up to its end, all partitions at the same time, and completes the tables.
    ///
    /// # Errors
    /// [`RebuildError`]; what is folded stays.
    pub async fn load(&mut self, ends: &[(i32, Offset)]) -> Result<(), RebuildError> {
        let ends: HashMap<i32, Offset> = ends.iter().copied().collect();
        let mut running = JoinSet::new();
        for mut lane in self.lanes.drain(..) {
            let end = ends.get(&lane.fold.partition()).copied();
            let progress = Arc::clone(&self.progress);
            running.spawn(async move {
                let end = end.unwrap_or(lane.fold.position());
                lane.fold_up_to(end, FEED_PATIENCE, &progress).await?;
                Ok::<_, RebuildError>(lane)
            });
        }
        while let Some(ended) = running.join_next().await {
            let lane = ended.map_err(|e| RebuildError::Feed(e.into()))?;
            self.lanes.push(lane?);
        }
        Ok(self.shadow.complete().await?)
    }

    /// Folds the records that the live fold has folded meanwhile, until only a few are missing.
    ///
    /// # Errors
    /// [`RebuildError`].
    pub async fn follow(&mut self) -> Result<(), RebuildError> {
        loop {
            let partitions = self.partitions();
            let live = self.live.positions(&self.topic, &partitions, View::Orders);
            let live = live.await?;
            if self.fold_up_to(&live, FEED_PATIENCE).await? <= NEAR_OFFSETS {
                return Ok(());
            }
        }
    }

    /// Folds every partition exactly up to these positions. Returns the number of offsets.
    pub(crate) async fn fold_up_to(
        &mut self,
        positions: &[(i32, Offset)],
        patience: Duration,
    ) -> Result<u64, RebuildError> {
        let positions: HashMap<i32, Offset> = positions.iter().copied().collect();
        let progress = &*self.progress;
        let folds = self.lanes.iter_mut().map(|lane| {
            let to = positions.get(&lane.fold.partition()).copied();
            lane.fold_up_to(to.unwrap_or(Offset::new(0)), patience, progress)
        });
        Ok(try_join_all(folds).await?.into_iter().sum())
    }

    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    pub(crate) fn partitions(&self) -> Vec<i32> {
        self.lanes.iter().map(|l| l.fold.partition()).collect()
    }

    /// How many offsets are missing up to these positions.
    pub(crate) fn behind(&self, positions: &[(i32, Offset)]) -> u64 {
        let positions: HashMap<i32, Offset> = positions.iter().copied().collect();
        let missing = |lane: &CopyLane<F>| {
            let to = positions.get(&lane.fold.partition()).copied()?;
            Some(offsets(lane.fold.position(), to))
        };
        self.lanes.iter().filter_map(missing).sum()
    }
}

impl<F: EventFeed> CopyLane<F> {
    async fn fold_up_to(
        &mut self,
        to: Offset,
        patience: Duration,
        progress: &Progress,
    ) -> Result<u64, RebuildError> {
        let (partition, began) = (self.fold.partition(), self.fold.position());
        if began > to {
            return Err(RebuildError::Ahead {
                partition,
                at: began,
                live: to,
            });
        }
        while self.fold.position() < to {
            let batch = self.next_up_to(to, patience).await?;
            let at = self.fold.position();
            let folded = self.fold.apply(&batch).await;
            folded.map_err(|source| RebuildError::Fold { partition, source })?;
            let moved = offsets(at, self.fold.position());
            progress.done.fetch_add(moved, Ordering::Relaxed);
        }
        Ok(offsets(began, to))
    }

    async fn next_up_to(
        &mut self,
        to: Offset,
        patience: Duration,
    ) -> Result<LogBatch, RebuildError> {
        let batch = match self.pending.take() {
            Some(batch) => batch,
            None => {
                let next = tokio::time::timeout(patience, self.feed.next()).await;
                let next = next.map_err(|_| RebuildError::Stalled {
                    partition: self.fold.partition(),
                    at: self.fold.position(),
                    wanted: to,
                })?;
                next.map_err(RebuildError::Feed)?
            }
        };
        if batch.to <= to {
            return Ok(batch);
        }
        let (now, later) = batch.split(to);
        self.pending = Some(later);
        Ok(now)
    }
}

fn offsets(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.get() - from.get()).unwrap_or(0)
}
