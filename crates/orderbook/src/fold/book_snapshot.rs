//! The tables as they are at one position of each partition.

use std::collections::HashMap;
use std::time::Instant;

use seckill_domain::{Epoch, EventId, LastRecord, Offset, Order, Refund, Sale, UserId, VoucherId};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::connections::{Connection, Transaction};
use crate::database::error::OrderbookError;
use crate::database::rows::{
    BEGIN_SNAPSHOT, ORDER_COLUMNS, RawOrder, RawRefund, RawSale, SALE_COLUMNS, all, order_id,
    order_ids_of,
};
use crate::fold::apply::{Adjustment, Reload};
use crate::fold::positions::{FoldPosition, RawPosition};
use crate::fold::sale_rows::{RowLoss, SaleRows};

/// Orders that are read by one statement.
const PAGE_ORDERS: usize = 1_000;

/// All tables at one position a partition, over a transaction that is held open: batches folded
/// meanwhile are not seen. Drop it soon: as long as it is open, PostgreSQL keeps what it sees.
#[derive(Debug)]
pub struct BookSnapshot {
    pub(crate) transaction: Transaction,
    positions: HashMap<i32, FoldPosition>,
}

/// How fast a sale's orders are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    AtOnce,
    /// Half of the time is left to others.
    WithRests,
}

#[derive(FromRow)]
struct RawRecordedAdjustment {
    event_id: Uuid,
    delta: i64,
    accepted: bool,
    reason: String,
    offset: i64,
}

impl Orderbook {
    /// Opens a snapshot of all tables and of the fold's positions in `topic`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn book_snapshot(&self, topic: &str) -> Result<BookSnapshot, OrderbookError> {
        let mut transaction = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let rows: Vec<RawPosition> = sqlx::query_as(
            "SELECT partition, next_offset, last_offset, last_identity, log_number FROM view_positions
              WHERE view = 'orders' AND topic = $1",
        )
        .bind(topic)
        .fetch_all(&mut *transaction)
        .await?;
        let position = |row: RawPosition| Ok((row.partition, row.try_into()?));
        let positions = rows.into_iter().map(position);
        let positions = positions.collect::<Result<_, OrderbookError>>()?;
        Ok(BookSnapshot {
            transaction,
            positions,
        })
    }

    /// The fold's position in the sale's partition, if nothing was decided of these buyers' orders, nor of
    /// the sale's stock adjustments, from `since` on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn quiet_until(
        &self,
        (topic, partition, voucher): (&str, i32, VoucherId),
        buyers: &[UserId],
        since: Offset,
    ) -> Result<Option<Offset>, OrderbookError> {
        let buyers: Vec<i64> = buyers.iter().map(|buyer| buyer.get()).collect();
        let row: Option<(i64, bool)> = sqlx::query_as(
            r#"SELECT next_offset,
                      EXISTS (SELECT FROM orders WHERE partition = $2 AND reserved_offset >= $5
                                 AND voucher_id = $3 AND user_id = ANY($4))
                      OR EXISTS (SELECT FROM orders WHERE partition = $2 AND closed_offset >= $5
                                    AND voucher_id = $3 AND user_id = ANY($4))
                      OR EXISTS (SELECT FROM stock_adjustments WHERE partition = $2 AND "offset" >= $5
                                    AND voucher_id = $3)
                 FROM view_positions WHERE view = 'orders' AND topic = $1 AND partition = $2"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(voucher.get())
        .bind(buyers)
        .bind(since.get())
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.and_then(|(position, moved)| (!moved).then_some(Offset::new(position))))
    }
}

impl BookSnapshot {
    /// The fold's position in this partition: everything below it is in the tables, and nothing above.
    #[must_use]
    pub fn position(&self, partition: i32) -> Offset {
        let known = self.positions.get(&partition);
        known.map_or(Offset::new(0), |position| position.next)
    }

    /// The last record that the fold had taken of this partition, by which its log is recognised.
    #[must_use]
    pub fn last_record(&self, partition: i32) -> Option<LastRecord> {
        self.positions.get(&partition)?.last
    }

    /// Every voucher that a row names, ascending.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn vouchers(&mut self) -> Result<Vec<VoucherId>, OrderbookError> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT voucher_id FROM vouchers UNION SELECT voucher_id FROM orders
              UNION SELECT voucher_id FROM refunds UNION SELECT voucher_id FROM stock_adjustments
              UNION SELECT voucher_id FROM sale_reloads ORDER BY 1",
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        let voucher = |id| crate::database::rows::voucher_id(id, "vouchers");
        ids.into_iter().map(voucher).collect()
    }

    /// One sale's rows. Empty where no table has any.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn rows(&mut self, voucher: VoucherId) -> Result<SaleRows, OrderbookError> {
        rows_of(&mut self.transaction, voucher, Pace::AtOnce).await
    }

    /// The same beside a fold that must not wait for it: after each page of orders it rests as long as that took.
    ///
    /// # Errors
    /// As [`Self::rows`].
    pub async fn rows_with_rests(
        &mut self,
        voucher: VoucherId,
    ) -> Result<SaleRows, OrderbookError> {
        rows_of(&mut self.transaction, voucher, Pace::WithRests).await
    }

    /// The orders and refunds of a sale, also those of rows that cannot be read otherwise.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn row_ids(&mut self, voucher: VoucherId) -> Result<Vec<RowLoss>, OrderbookError> {
        row_ids(&mut self.transaction, voucher).await
    }

    /// Table and key of the sale's rows that stand in another partition than the sale's own, or of
    /// orders that stand under another sale than their ids say. No effect is derived from them, and no
    /// fold finds them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn misplaced(
        &mut self,
        voucher: VoucherId,
        partition: i32,
    ) -> Result<Vec<(String, String)>, OrderbookError> {
        Ok(misplaced(&mut self.transaction, voucher, partition).await?)
    }
}

/// See [`BookSnapshot::row_ids`].
pub(crate) async fn row_ids(
    connection: &mut Connection,
    voucher: VoucherId,
) -> Result<Vec<RowLoss>, OrderbookError> {
    let (first, last) = order_ids_of(voucher);
    let orders: Vec<Uuid> =
        sqlx::query_scalar("SELECT order_id FROM orders WHERE order_id BETWEEN $1 AND $2")
            .bind(first)
            .bind(last)
            .fetch_all(&mut *connection)
            .await?;
    let refunds: Vec<String> =
        sqlx::query_scalar("SELECT payment_id FROM refunds WHERE voucher_id = $1")
            .bind(voucher.get())
            .fetch_all(connection)
            .await?;
    let order = |id| Ok(RowLoss::Order(order_id(id, "orders")?));
    let orders = orders.into_iter().map(order);
    let refunds = refunds.into_iter().map(|id| Ok(RowLoss::Refund(id)));
    orders.chain(refunds).collect()
}

/// See [`BookSnapshot::misplaced`].
pub(crate) async fn misplaced(
    connection: &mut Connection,
    voucher: VoucherId,
    partition: i32,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    let (first, last) = order_ids_of(voucher);
    sqlx::query_as(
        "SELECT 'orders', order_id::text FROM orders
          WHERE order_id BETWEEN $1 AND $2 AND (voucher_id <> $3 OR partition <> $4)
         UNION ALL SELECT 'vouchers', voucher_id::text FROM vouchers
          WHERE voucher_id = $3 AND partition <> $4
         UNION ALL SELECT 'refunds', payment_id FROM refunds
          WHERE voucher_id = $3 AND partition <> $4
         UNION ALL SELECT 'stock_adjustments', event_id::text FROM stock_adjustments
          WHERE voucher_id = $3 AND partition <> $4",
    )
    .bind(first)
    .bind(last)
    .bind(voucher.get())
    .bind(partition)
    .fetch_all(connection)
    .await
}

/// See [`BookSnapshot::rows`].
pub(crate) async fn rows_of(
    connection: &mut Connection,
    voucher: VoucherId,
    pace: Pace,
) -> Result<SaleRows, OrderbookError> {
    let sql = format!("SELECT {SALE_COLUMNS} FROM vouchers WHERE voucher_id = $1");
    let sale: Option<RawSale> = sqlx::query_as(&sql)
        .bind(voucher.get())
        .fetch_optional(&mut *connection)
        .await?;
    let orders = orders_of(connection, voucher, pace).await?;
    let refunds: Vec<RawRefund> = sqlx::query_as(
        r#"SELECT payment_id, order_id, amount_cents, currency, reason, "offset" FROM refunds
            WHERE voucher_id = $1 ORDER BY "offset""#,
    )
    .bind(voucher.get())
    .fetch_all(&mut *connection)
    .await?;
    Ok(SaleRows {
        sale: sale.map(Sale::try_from).transpose()?,
        orders,
        refunds: all::<_, Refund>(refunds)?,
        adjustments: adjustments_of(connection, voucher).await?,
        reloads: reloads_of(connection, voucher).await?,
    })
}

/// In the order of their ids.
async fn orders_of(
    connection: &mut Connection,
    voucher: VoucherId,
    pace: Pace,
) -> Result<Vec<Order>, OrderbookError> {
    let (mut from, last) = order_ids_of(voucher);
    let sql = format!(
        "SELECT {ORDER_COLUMNS} FROM orders WHERE order_id BETWEEN $1 AND $2 ORDER BY order_id LIMIT {PAGE_ORDERS}"
    );
    let mut orders = Vec::new();
    loop {
        let begun = Instant::now();
        let page: Vec<RawOrder> = sqlx::query_as(&sql)
            .bind(from)
            .bind(last)
            .fetch_all(&mut *connection)
            .await?;
        let is_last = page.len() < PAGE_ORDERS;
        orders.extend(all::<_, Order>(page)?);
        let newest = orders.last().map(|order| order.order_id.as_uuid());
        match newest.filter(|newest| !is_last && *newest < last) {
            Some(newest) => from = Uuid::from_u128(newest.as_u128() + 1),
            None => return Ok(orders),
        }
        if pace == Pace::WithRests {
            tokio::time::sleep(begun.elapsed()).await;
        }
    }
}

async fn adjustments_of(
    connection: &mut Connection,
    voucher: VoucherId,
) -> Result<Vec<Adjustment>, OrderbookError> {
    let rows: Vec<RawRecordedAdjustment> = sqlx::query_as(
        r#"SELECT event_id, delta, accepted, reason, "offset" FROM stock_adjustments
            WHERE voucher_id = $1 ORDER BY "offset""#,
    )
    .bind(voucher.get())
    .fetch_all(connection)
    .await?;
    let adjustment = |row: RawRecordedAdjustment| Adjustment {
        event_id: EventId::from_uuid(row.event_id),
        voucher_id: voucher,
        delta: row.delta,
        accepted: row.accepted,
        reason: row.reason,
        offset: Offset::new(row.offset),
    };
    Ok(rows.into_iter().map(adjustment).collect())
}

async fn reloads_of(
    connection: &mut Connection,
    voucher: VoucherId,
) -> Result<Vec<Reload>, OrderbookError> {
    let rows: Vec<(Uuid, i64, bool, i64)> = sqlx::query_as(
        r#"SELECT nonce, epoch, accepted, "offset" FROM sale_reloads
            WHERE voucher_id = $1 ORDER BY "offset""#,
    )
    .bind(voucher.get())
    .fetch_all(connection)
    .await?;
    let reload = |(nonce, epoch, accepted, offset)| Reload {
        voucher_id: voucher,
        nonce,
        epoch: Epoch::new(epoch),
        accepted,
        offset: Offset::new(offset),
    };
    Ok(rows.into_iter().map(reload).collect())
}
