//! The fold into the tables beside the live ones: that of [`Orderbook::apply`], with the sales kept in
//! memory between the batches, which saves reading back what was just written.

use std::collections::BTreeSet;

use seckill_domain::{Event, Offset, VoucherId};
use sqlx::PgConnection;

use crate::apply::{BEGIN_FOLD, Changes, check_order_id, fold_one};
use crate::positions::{compare_and_set, fold_position};
use crate::rebuild::Shadow;
use crate::working_set::{self, WorkingSet};
use crate::{ApplyError, Orderbook, OrderbookError, write};

/// Orders that all folds of one rebuild together keep in memory, at a few hundred bytes each. Sales are
/// read again when they are needed again.
const ORDERS_IN_MEMORY: usize = 4_000_000;

/// A stretch of one partition: all that its records hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoldBatch {
    /// The offset after its last record.
    pub to: Offset,
    /// The events, ascending.
    pub events: Vec<(Offset, Event)>,
    /// Where a record could not be decoded.
    pub undecodable: Vec<Offset>,
}

impl FoldBatch {
    /// The part before `middle`, and the rest.
    #[must_use]
    pub fn split(mut self, middle: Offset) -> (Self, Self) {
        let events = self.events.partition_point(|(at, _)| *at < middle);
        let undecodable = self.undecodable.partition_point(|at| *at < middle);
        let rest = Self {
            to: self.to,
            events: self.events.split_off(events),
            undecodable: self.undecodable.split_off(undecodable),
        };
        self.to = middle;
        (self, rest)
    }
}

/// One partition's fold into the tables beside the live ones.
#[derive(Debug)]
pub struct ShadowFold {
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
        let positions = self
            .tables
            .positions(&self.topic, partitions, crate::View::Orders);
        let positions = positions.await?;
        let orders_max = ORDERS_IN_MEMORY / positions.len().max(1);
        let fold = |(partition, position): (i32, Offset)| ShadowFold {
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

    /// Folds a batch that begins at [`Self::position`]. Events whose data the database refuses are
    /// left out and noted, as the live fold makes dead letters of them.
    ///
    /// # Errors
    /// Of [`ApplyError`] all but `Refused`. The tables say where to go on: take a new fold.
    pub async fn apply(&mut self, batch: FoldBatch) -> Result<(), ApplyError> {
        let mut rest = vec![(batch, None)];
        while let Some((batch, refused)) = rest.pop() {
            match self.transact(&batch, refused.as_ref()).await {
                Ok(()) => self.position = batch.to,
                Err(ApplyError::Refused { sqlstate, message }) => {
                    let cause = format!("{sqlstate}: {message}");
                    if let [(offset, _)] = batch.events.as_slice() {
                        let refused = Some((*offset, cause));
                        let events = Vec::new();
                        rest.push((FoldBatch { events, ..batch }, refused));
                    } else {
                        let middle = batch.events[batch.events.len() / 2].0;
                        let (first, second) = batch.split(middle);
                        rest.extend([(second, None), (first, None)]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn transact(
        &mut self,
        batch: &FoldBatch,
        refused: Option<&(Offset, String)>,
    ) -> Result<(), ApplyError> {
        // Until the commit the states are ahead of the tables: on any error they are read again.
        let mut states = std::mem::take(&mut self.states);
        let fresh = std::mem::take(&mut self.from_nothing);
        batch.events.iter().try_for_each(check_order_id)?;
        let mut transaction = self.tables.pool.begin_with(BEGIN_FOLD).await?;
        let (topic, partition) = (&self.topic, self.partition);
        compare_and_set(&mut transaction, topic, partition, self.position, batch.to).await?;
        if !fresh {
            let named: BTreeSet<VoucherId> =
                batch.events.iter().map(|(_, e)| e.voucher_id).collect();
            let unknown = named.into_iter().filter(|v| !states.contains_key(v));
            let unknown: Vec<_> = unknown.collect();
            working_set::load_whole(&mut transaction, &unknown, &mut states).await?;
        }
        let mut changes = Changes::default();
        for (offset, event) in &batch.events {
            fold_one(&mut states, &mut changes, *offset, event);
        }
        write::all(&mut transaction, partition, &states, &changes).await?;
        note_skipped(&mut transaction, partition, batch, refused).await?;
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
        let mut connection = self.tables.pool.acquire().await?;
        Ok(fold_position(&mut connection, &self.topic, self.partition).await?)
    }
}

async fn note_skipped(
    connection: &mut PgConnection,
    partition: i32,
    batch: &FoldBatch,
    refused: Option<&(Offset, String)>,
) -> Result<(), sqlx::Error> {
    let undecodable = batch.undecodable.iter().map(|at| (at.get(), "undecodable"));
    let refused = refused.map(|(at, cause)| (at.get(), cause.as_str()));
    let (offsets, causes): (Vec<i64>, Vec<&str>) = undecodable.chain(refused).unzip();
    if offsets.is_empty() {
        return Ok(());
    }
    sqlx::query(
        r#"INSERT INTO rebuild_skipped (partition, "offset", cause)
           SELECT $1, * FROM unnest($2::bigint[], $3::text[])"#,
    )
    .bind(partition)
    .bind(offsets)
    .bind(causes)
    .execute(connection)
    .await?;
    Ok(())
}
