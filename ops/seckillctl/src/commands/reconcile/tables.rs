//! Compares PostgreSQL with the log, and repairs it from the fold of the log.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use anyhow::{Context, anyhow};
use seckill_domain::{Offset, VoucherId};
use seckill_orderbook::{
    BookSnapshot, FoldLock, Orderbook, OrderbookError, Repaired, RowLoss, SaleRows, View,
};

use super::difference::{Difference, REWRITE, Removal};
use super::log_fold::LogFold;
use crate::act::Warrant;
use crate::failure::Failure;
use crate::log::Log;

/// How often the fold may be ahead of the part of the log that was read, each time by less.
const LOCK_ATTEMPTS: u32 = 20;

const EXTRA: &str = "the row should not be there";

/// The differences between the rows of a sale and the book, which is folded up to the snapshot's position.
pub(super) async fn compare(
    log: &Log,
    fold: &LogFold<'_>,
    snapshot: &mut BookSnapshot,
    voucher: VoucherId,
) -> Result<Vec<Difference>, Failure> {
    let partition = log.partition_of(voucher);
    let expected = fold.book.rows(voucher);
    let rows = snapshot.rows(voucher).await;
    let is_empty = rows.as_ref().is_ok_and(SaleRows::is_empty);
    if !is_empty && snapshot.position(partition) == Offset::new(0) {
        return Err(Failure::Refused(format!(
            "the tables have rows of sale {voucher}, and have taken no record of partition {partition} of {}: \
             DATABASE_URL belongs to another log; nothing was compared or written",
            log.topics.events
        )));
    }
    let mut found: Vec<_> = match rows {
        Ok(rows) => {
            let lost = expected.losses(&rows).into_iter().collect();
            let differences = expected.differences(&rows).into_iter();
            differences
                .map(|d| Difference::of_row(voucher, &d, &lost))
                .collect()
        }
        Err(OrderbookError::Row { table, column }) => {
            let what = format!("{column} holds what no fold writes");
            let unreadable = Difference::of_rows(voucher, "unreadable-row", table, "", &what);
            let mut found = extra_rows(&expected, snapshot, voucher).await?;
            found.push(unreadable);
            found
        }
        Err(error) => {
            return Err(anyhow::Error::new(error)
                .context("cannot read the rows")
                .into());
        }
    };
    let misplaced = snapshot.misplaced(voucher, partition).await;
    for (table, key) in misplaced.context("cannot read the rows")? {
        let what = "the row stands under another sale or in another partition";
        found.push(Difference::of_rows(
            voucher,
            "misplaced-row",
            &table,
            &key,
            what,
        ));
    }
    Ok(found)
}

/// Orders and refunds that are not in the log, of a sale whose rows cannot be read. All its rows are written again.
async fn extra_rows(
    expected: &SaleRows,
    snapshot: &mut BookSnapshot,
    voucher: VoucherId,
) -> Result<Vec<Difference>, Failure> {
    let ids = snapshot.row_ids(voucher).await;
    let extra = expected.lacks(ids.context("cannot read the rows")?);
    let difference = |loss: RowLoss| {
        let (table, key) = match &loss {
            RowLoss::Order(id) => ("orders", id.to_string()),
            RowLoss::Refund(payment) => ("refunds", payment.clone()),
        };
        Difference {
            removes: Some(Removal::from(loss)),
            ..Difference::of_rows(voucher, "extra-row", table, &key, EXTRA)
        }
    };
    Ok(extra.into_iter().map(difference).collect())
}

/// Writes the fold's rows of these sales, in a short transaction for each partition, during which the projector's fold
/// waits. Returns how many rows were written or removed. `planned` is what may be removed.
pub(super) async fn repair(
    log: &Log,
    orderbook: &Orderbook,
    planned: &[Difference],
    warrant: &Warrant,
) -> Result<usize, Failure> {
    let written = planned.iter().filter(|d| d.repair == REWRITE);
    let vouchers: BTreeSet<_> = written.map(|d| d.voucher).collect();
    let may_go = planned.iter().filter_map(|d| match d.removes.clone()? {
        Removal::Order(id) => Some(RowLoss::Order(id)),
        Removal::Refund(payment) => Some(RowLoss::Refund(payment)),
        Removal::Shrink(_) | Removal::Unreadable => None,
    });
    let may_go = may_go.collect();
    let mut by_partition: BTreeMap<i32, Vec<VoucherId>> = BTreeMap::new();
    for voucher in &vouchers {
        let partition = log.partition_of(*voucher);
        by_partition.entry(partition).or_default().push(*voucher);
    }
    let wanted: HashSet<_> = vouchers.into_iter().collect();
    let snapshot = orderbook.book_snapshot(&log.topics.events).await;
    let mut snapshot = snapshot.context("cannot read the tables")?;
    let partitions = by_partition.keys().copied();
    let mut fold = LogFold::new(log, &mut snapshot, Some(wanted), partitions).await?;
    drop(snapshot);
    let mut rows = 0;
    for (partition, vouchers) in &by_partition {
        let (lock, position) = hold(log, orderbook, &mut fold, *partition).await?;
        fold.fold_to(*partition, position);
        rows += rewrite(&fold, lock, vouchers, &may_go, warrant).await?;
    }
    Ok(rows)
}

/// Locks a partition's fold at a position up to which the log was read. If the fold is ahead of that, the lock is
/// released and the log is read first, so that the projector does not wait. After some attempts, the few records that
/// are missing are read while the projector waits.
async fn hold(
    log: &Log,
    orderbook: &Orderbook,
    fold: &mut LogFold<'_>,
    partition: i32,
) -> Result<(FoldLock, Offset), Failure> {
    let topic = &log.topics.events;
    for attempt in 1.. {
        let at = orderbook.fold_positions(topic, &[partition]).await;
        let at = at.context("cannot read the fold's position")?;
        fold.expect(
            partition,
            at.first().and_then(|(_, position)| position.last),
        );
        if attempt < LOCK_ATTEMPTS {
            let positions = orderbook.positions(topic, &[partition], View::Orders).await;
            let positions = positions.context("cannot read the fold's position")?;
            fold.read(&positions.into_iter().collect()).await?;
        }
        let lock = orderbook.lock_fold(topic, partition).await;
        let lock = lock.context("cannot hold the fold")?;
        let lock = lock.ok_or_else(|| anyhow!("partition {partition} was never folded"))?;
        if !fold.is_of_log(partition, lock.log_number()) {
            return Err(Failure::Refused(format!(
                "another log was accepted for partition {partition} meanwhile: repeat the command; nothing \
                 was written"
            )));
        }
        let position = lock.position();
        if attempt >= LOCK_ATTEMPTS {
            fold.read(&HashMap::from([(partition, position)])).await?;
        }
        if position <= fold.read_to(partition) {
            fold.prove()?;
            return Ok((lock, position));
        }
    }
    unreachable!("the last attempt reads up to where the fold is held")
}

async fn rewrite(
    fold: &LogFold<'_>,
    mut lock: FoldLock,
    vouchers: &[VoucherId],
    may_go: &HashSet<RowLoss>,
    warrant: &Warrant,
) -> Result<usize, Failure> {
    let sale = |voucher: &VoucherId| {
        let was_in_redis = fold.book.was_in_redis(*voucher);
        (*voucher, fold.book.rows(*voucher), was_in_redis)
    };
    let sales: Vec<_> = vouchers.iter().map(sale).collect();
    let repaired = lock.repair(&sales, may_go).await;
    let rows = match repaired.context("the rows were not written; nothing was changed")? {
        Repaired::Rows(rows) => rows,
        Repaired::WouldLose(lost) => {
            let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
            return Err(Failure::Refused(format!(
                "rows appeared after the plan was made, and would be taken away: {}; nothing of their partition \
                 was written: look at what a new plan says of them",
                lost.join(", ")
            )));
        }
    };
    let committed = lock.commit(warrant.entry(rows)).await;
    committed.context("unknown whether the rows were written: run it again")?;
    Ok(rows)
}
