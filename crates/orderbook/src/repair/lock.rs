//! Repairs tables that another program has changed: afterwards they have what the fold of the log has.

use std::collections::{BTreeMap, HashSet};

use seckill_domain::{Offset, VoucherId};
use uuid::Uuid;

use crate::books::admin::{AuditEntry, insert_audit};
use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, Transaction};
use crate::database::error::OrderbookError;
use crate::database::rows::order_ids_of;
use crate::fold::book_snapshot::{Pace, misplaced, row_ids, rows_of};
use crate::fold::sale_rows::{RowLoss, SaleRows};
use crate::fold::write;

/// A lock on the fold of one partition: while it exists, no projector can move the position. Keep it only
/// for a short time, and end it with [`Self::commit`]. When it is dropped, nothing was changed.
#[derive(Debug)]
pub struct FoldLock {
    transaction: Transaction,
    partition: i32,
    position: Offset,
    log_number: i32,
}

impl Orderbook {
    /// Locks the fold of a partition. None if it was never begun.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lock_fold(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Option<FoldLock>, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        let position: Option<(i64, i32)> = sqlx::query_as(
            "SELECT next_offset, log_number FROM view_positions
              WHERE view = 'orders' AND topic = $1 AND partition = $2 FOR UPDATE",
        )
        .bind(topic)
        .bind(partition)
        .fetch_optional(&mut *transaction)
        .await?;
        Ok(position.map(|(position, log_number)| FoldLock {
            transaction,
            partition,
            position: Offset::new(position),
            log_number,
        }))
    }
}

/// The result of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repaired {
    /// So many rows were written or removed.
    Rows(usize),
    /// These would be lost, and may not be: end the lock without a commit.
    WouldLose(Vec<RowLoss>),
}

impl FoldLock {
    /// The position of the locked fold.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.position
    }

    /// The number of the log that it is held in.
    #[must_use]
    pub const fn log_number(&self) -> i32 {
        self.log_number
    }

    /// Makes the rows of sales what they should be at [`Self::position`]: `(sale, its rows, whether Redis
    /// may have had it)`. Only rows that differ are touched, and nothing that is not the fold's own: a
    /// sale keeps its flags `loaded` and `retired`. Nothing is lost but what `may_go` names: somebody may have
    /// written rows since it was decided what goes.
    ///
    /// # Errors
    /// When the database fails or refuses.
    pub async fn repair(
        &mut self,
        sales: &[(VoucherId, SaleRows, bool)],
        may_go: &HashSet<RowLoss>,
    ) -> Result<Repaired, OrderbookError> {
        let connection = &mut *self.transaction;
        let mut insertions = Vec::with_capacity(sales.len());
        let (mut changed, mut lost) = (0, Vec::new());
        // All removals first: a row that should not be there may be in the way of another sale's.
        for (voucher, expected, was_in_redis) in sales {
            let mut change = remove_wrong(connection, *voucher, self.partition, expected).await?;
            changed += change.rows;
            lost.append(&mut change.lost);
            insertions.push((change, *was_in_redis));
        }
        lost.retain(|loss| !may_go.contains(loss));
        if !lost.is_empty() {
            return Ok(Repaired::WouldLose(lost));
        }
        for (change, was_in_redis) in &insertions {
            insert_right(connection, self.partition, change, *was_in_redis).await?;
        }
        Ok(Repaired::Rows(changed))
    }

    /// Ends it, with a row in the operators' audit.
    ///
    /// # Errors
    /// When the database fails: then nothing was changed, unless COMMIT itself broke off.
    pub async fn commit(mut self, entry: AuditEntry<'_>) -> Result<(), OrderbookError> {
        insert_audit(&mut self.transaction, entry).await?;
        Ok(self.transaction.commit().await?)
    }
}

/// What is still to be inserted once everything wrong is gone.
struct Change {
    missing: SaleRows,
    /// `loaded` and `retired` of a sale's row that was removed to be written anew.
    flags: Option<(bool, bool)>,
    rows: usize,
    /// What is removed and stays away, or is no live order any more.
    lost: Vec<RowLoss>,
}

async fn remove_wrong(
    connection: &mut Connection,
    voucher: VoucherId,
    partition: i32,
    expected: &SaleRows,
) -> Result<Change, OrderbookError> {
    let elsewhere = misplaced(connection, voucher, partition).await?;
    let actual = match rows_of(connection, voucher, Pace::AtOnce).await {
        Ok(rows) if elsewhere.is_empty() => rows,
        // A row that cannot be read, or stands elsewhere: all of the sale's are written anew.
        Ok(_) | Err(OrderbookError::Row { .. }) => {
            let (rows, lost) = remove_all(connection, voucher, expected).await?;
            let flags = remove_sale(connection, voucher).await?;
            let missing = expected.clone();
            let rows = rows.max(missing.len());
            return Ok(Change {
                missing,
                flags,
                rows,
                lost,
            });
        }
        Err(error) => return Err(error),
    };
    let orders = differing(&expected.orders, &actual.orders, |o| o.order_id.as_uuid());
    let refunds = differing(&expected.refunds, &actual.refunds, |r| {
        r.payment_id.as_str().to_owned()
    });
    let adjustments = differing(&expected.adjustments, &actual.adjustments, |a| {
        a.event_id.as_uuid()
    });
    let reloads = differing(&expected.reloads, &actual.reloads, |r| r.nonce);
    let sale_differs = expected.sale != actual.sale;
    let rows = orders.count + refunds.count + adjustments.count + reloads.count;
    remove_rows(
        connection,
        voucher,
        (&orders.wrong, &refunds.wrong),
        (&adjustments.wrong, &reloads.wrong),
    )
    .await?;
    let flags = match sale_differs {
        true => remove_sale(connection, voucher).await?,
        false => None,
    };
    Ok(Change {
        missing: SaleRows {
            sale: expected.sale.clone().filter(|_| sale_differs),
            orders: orders.missing,
            refunds: refunds.missing,
            adjustments: adjustments.missing,
            reloads: reloads.missing,
        },
        flags,
        rows: rows + usize::from(sale_differs),
        lost: expected.losses(&actual),
    })
}

/// Keys of rows to be removed, rows to be inserted, and how many rows that concerns.
struct Differing<K, R> {
    wrong: Vec<K>,
    missing: Vec<R>,
    count: usize,
}

fn differing<K: Ord, R: PartialEq + Clone>(
    expected: &[R],
    actual: &[R],
    key: impl Fn(&R) -> K,
) -> Differing<K, R> {
    let mut others: BTreeMap<K, &R> = actual.iter().map(|row| (key(row), row)).collect();
    let mut found = Differing {
        wrong: Vec::new(),
        missing: Vec::new(),
        count: 0,
    };
    for row in expected {
        let key = key(row);
        match others.remove(&key) {
            Some(other) if other == row => continue,
            Some(_) => found.wrong.push(key),
            None => {}
        }
        found.missing.push(row.clone());
    }
    found.count = found.missing.len() + others.len();
    found.wrong.extend(others.into_keys());
    found
}

async fn remove_rows(
    connection: &mut Connection,
    voucher: VoucherId,
    (orders, refunds): (&[Uuid], &[String]),
    (adjustments, reloads): (&[Uuid], &[Uuid]),
) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM orders WHERE order_id = ANY($1)")
        .bind(orders)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM refunds WHERE voucher_id = $1 AND payment_id = ANY($2)")
        .bind(voucher.get())
        .bind(refunds)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM stock_adjustments WHERE voucher_id = $1 AND event_id = ANY($2)")
        .bind(voucher.get())
        .bind(adjustments)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM sale_reloads WHERE voucher_id = $1 AND nonce = ANY($2)")
        .bind(voucher.get())
        .bind(reloads)
        .execute(connection)
        .await?;
    Ok(())
}

/// How many there were, and which of them are not expected.
async fn remove_all(
    connection: &mut Connection,
    voucher: VoucherId,
    expected: &SaleRows,
) -> Result<(usize, Vec<RowLoss>), OrderbookError> {
    let ids = row_ids(connection, voucher).await?;
    let (first, last) = order_ids_of(voucher);
    let removed = sqlx::query("DELETE FROM orders WHERE order_id BETWEEN $1 AND $2")
        .bind(first)
        .bind(last)
        .execute(&mut *connection)
        .await?;
    let mut rows = removed.rows_affected();
    for table in ["refunds", "stock_adjustments", "sale_reloads"] {
        let removed = sqlx::query(&format!("DELETE FROM {table} WHERE voucher_id = $1"))
            .bind(voucher.get())
            .execute(&mut *connection)
            .await?;
        rows += removed.rows_affected();
    }
    let rows = usize::try_from(rows).unwrap_or(usize::MAX);
    Ok((rows, expected.lacks(ids)))
}

async fn remove_sale(
    connection: &mut Connection,
    voucher: VoucherId,
) -> Result<Option<(bool, bool)>, sqlx::Error> {
    sqlx::query_as("DELETE FROM vouchers WHERE voucher_id = $1 RETURNING loaded, retired")
        .bind(voucher.get())
        .fetch_optional(connection)
        .await
}

async fn insert_right(
    connection: &mut Connection,
    partition: i32,
    change: &Change,
    was_in_redis: bool,
) -> Result<(), sqlx::Error> {
    let rows = &change.missing;
    let orders: Vec<_> = rows.orders.iter().collect();
    write::insert_orders(connection, partition, &orders).await?;
    let refunds: Vec<_> = rows.refunds.iter().collect();
    write::insert_refunds(connection, partition, &refunds).await?;
    write::insert_adjustments(connection, partition, &rows.adjustments).await?;
    write::insert_reloads(connection, &rows.reloads).await?;
    let Some(sale) = &rows.sale else {
        return Ok(());
    };
    let (loaded, retired) = change.flags.unwrap_or((false, false));
    write::upsert_sales(connection, partition, &[(sale, loaded || was_in_redis)]).await?;
    if retired {
        sqlx::query("UPDATE vouchers SET retired = true WHERE voucher_id = $1")
            .bind(sale.voucher_id.get())
            .execute(connection)
            .await?;
    }
    Ok(())
}
