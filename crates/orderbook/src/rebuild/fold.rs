//! The fold into the tables beside the live ones: that of [`Orderbook::apply`], with the sales kept in
//! memory between the batches, which saves reading back what was just written.

use std::collections::BTreeSet;

use seckill_domain::{Event, LogBatch, Offset, VoucherId};

use crate::database::connect::Orderbook;
use crate::database::error::{ApplyError, OrderbookError};
use crate::fold::apply::{BEGIN_FOLD, Changes, check_order_id, fold_one};
use crate::fold::positions::{compare_and_set, fold_position};
use crate::fold::skip_decisions::SkipDecisions;
use crate::fold::working_set::{self, WorkingSet};
use crate::fold::write;
use crate::rebuild::shadow::Shadow;

/// Orders that all folds of one rebuild together keep in memory, at a few hundred bytes each. Sales are
/// read again when they are needed again.
const ORDERS_IN_MEMORY: usize = 4_000_000;

/// One partition's fold into the tables beside the live ones.
#[derive(Debug)]
pub struct ShadowFold {
    live: Orderbook,
    tables: Orderbook,
    topic: String,
    partition: i32,
    position: Offset,
    states: WorkingSet,
    /// Nothing was in the tables when this fold began: there is nothing to be read.
    from_nothing: bool,
    orders_max: usize,
}

impl Shadow {
    /// The fold of each partition, at its position.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn folds(&self, partitions: &[i32]) -> Result<Vec<ShadowFold>, OrderbookError> {
        let positions = self.tables.positions(
            &self.topic,
            partitions,
            crate::fold::positions::View::Orders,
        );
        let positions = positions.await?;
        let orders_max = ORDERS_IN_MEMORY / positions.len().max(1);
        let fold = |(partition, position): (i32, Offset)| ShadowFold {
            live: self.live.clone(),
            tables: self.tables.clone(),
            topic: self.topic.clone(),
            partition,
            position,
            states: WorkingSet::new(),
            from_nothing: position == Offset::new(0),
            orders_max,
        };
        Ok(positions.into_iter().map(fold).collect())
    }
}

impl ShadowFold {
    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> i32 {
        self.partition
    }

    /// Everything below is in the tables.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.position
    }

    /// Folds a batch that begins at [`Self::position`]. What the live fold passes over by an operator's
    /// decision is passed over here.
    ///
    /// # Errors
    /// As [`Orderbook::apply`]. The tables say where to go on: take a new fold.
    pub async fn apply(&mut self, batch: &LogBatch) -> Result<(), ApplyError> {
        let (topic, partition) = (&self.topic, self.partition);
        let decided = self.live.decided_from(topic, partition, self.position);
        let records = decided.await?;
        // Tables that were live once have a count of their own.
        let (count, log_number) = self.tables.decision_count(topic, partition).await?;
        let skips = SkipDecisions {
            count,
            log_number,
            records,
        };
        let events = skips.take_from(batch)?;
        self.transact(batch, &events, &skips).await?;
        self.position = batch.to;
        Ok(())
    }

    async fn transact(
        &mut self,
        batch: &LogBatch,
        events: &[(Offset, Event)],
        skips: &SkipDecisions,
    ) -> Result<(), ApplyError> {
        // Until the commit the states are ahead of the tables: on any error they are read again.
        let mut states = std::mem::take(&mut self.states);
        let fresh = std::mem::take(&mut self.from_nothing);
        events.iter().try_for_each(check_order_id)?;
        let mut transaction = self.tables.pool.begin_with(BEGIN_FOLD).await?;
        let (topic, partition) = (&self.topic, self.partition);
        let from = self.position;
        compare_and_set(&mut transaction, topic, partition, from, batch, skips).await?;
        if !fresh {
            let named: BTreeSet<VoucherId> = events.iter().map(|(_, e)| e.voucher_id).collect();
            let unknown = named.into_iter().filter(|v| !states.contains_key(v));
            let unknown: Vec<_> = unknown.collect();
            working_set::load_whole(&mut transaction, &unknown, &mut states).await?;
        }
        let mut changes = Changes::default();
        for (offset, event) in events {
            fold_one(&mut states, &mut changes, *offset, event);
        }
        write::all(&mut transaction, partition, &states, &changes).await?;
        transaction.commit().await.map_err(ApplyError::of_commit)?;
        for state in states.values_mut() {
            // They are written; the fold does not ask for them.
            state.refunds.clear();
        }
        let orders: usize = states.values().map(|state| state.orders.len()).sum();
        if orders <= self.orders_max {
            (self.states, self.from_nothing) = (states, fresh);
        }
        Ok(())
    }

    /// Where the tables stand, as the database says it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stored_position(&self) -> Result<Offset, OrderbookError> {
        let mut transaction = self.tables.pool.begin().await?;
        Ok(fold_position(&mut transaction, &self.topic, self.partition).await?)
    }
}
