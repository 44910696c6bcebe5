//! Reads for the API. All of them use an index.

use std::collections::{HashMap, HashSet};

use seckill_domain::{
    Epoch, Offset, Order, OrderId, PaymentId, Sale, Timestamp, UserId, VoucherId,
};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::{
    BEGIN_SNAPSHOT, ORDER_COLUMNS, RawOrder, RawSale, SALE_COLUMNS, all, order_id, voucher_id,
};
use crate::database::sql_time::SqlTime;

/// A sale with what the table knows beyond the fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleRow {
    /// The sale.
    pub sale: Sale,
    /// Its partition.
    pub partition: i32,
    /// Whether Redis may ever have had it.
    pub loaded: bool,
    /// Whether it was removed from Redis: it has ended.
    pub retired: bool,
}

/// A sale's units, and the position of the log at which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerRow {
    /// Units at the start.
    pub initial: i64,
    /// Units added less units taken away since.
    pub adjusted: i64,
    /// Units free.
    pub available: i64,
    /// Units in unpaid orders.
    pub unpaid: i64,
    /// Units in paid orders.
    pub paid: i64,
    /// Whether the sale was removed from Redis.
    pub retired: bool,
    /// The sale's epoch.
    pub epoch: Epoch,
    /// The fold's position in the sale's partition, of the same moment.
    pub position: Offset,
}

/// An order and its sale, of one moment, so that a missing order can be explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderAsOf {
    /// The order, if the fold has it.
    pub order: Option<Order>,
    /// Its sale, if the fold has it.
    pub ledger: Option<LedgerRow>,
}

#[derive(FromRow)]
struct RawSaleRow {
    #[sqlx(flatten)]
    sale: RawSale,
    partition: i32,
    loaded: bool,
    retired: bool,
}

impl TryFrom<RawSaleRow> for SaleRow {
    type Error = OrderbookError;

    fn try_from(row: RawSaleRow) -> Result<Self, OrderbookError> {
        Ok(Self {
            sale: row.sale.try_into()?,
            partition: row.partition,
            loaded: row.loaded,
            retired: row.retired,
        })
    }
}

impl Orderbook {
    /// One sale.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn sale(&self, voucher: VoucherId) -> Result<Option<SaleRow>, OrderbookError> {
        let sql = format!(
            "SELECT {SALE_COLUMNS}, partition, loaded, retired FROM vouchers WHERE voucher_id = $1"
        );
        let row: Option<RawSaleRow> = sqlx::query_as(&sql)
            .bind(voucher.get())
            .fetch_optional(&self.pool)
            .await?;
        row.map(SaleRow::try_from).transpose()
    }

    /// At most `limit` sales, the newest first; `before` is the last one of the page before.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn sales(
        &self,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Vec<SaleRow>, OrderbookError> {
        self.sales_where("true", limit, before).await
    }

    /// As [`Self::sales`], without those whose last unit is paid: there is nothing left that could
    /// come back by itself.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn sales_on_shelf(
        &self,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Vec<SaleRow>, OrderbookError> {
        self.sales_where("on_shelf", limit, before).await
    }

    /// No sale has a higher id than this: the last that was given out, and 0 before the first.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn last_voucher_id(&self) -> Result<i64, OrderbookError> {
        let last = sqlx::query_scalar(
            "SELECT greatest((SELECT last_id FROM voucher_ids), (SELECT max(voucher_id) FROM vouchers))",
        );
        Ok(last.fetch_one(&self.pool).await?)
    }

    /// Units free of many sales; those that there are.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn available_of(
        &self,
        vouchers: &[VoucherId],
    ) -> Result<HashMap<VoucherId, i64>, OrderbookError> {
        self.numbers_of("stock_left", vouchers).await
    }

    /// The epochs of sales; those that there are.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn epochs(
        &self,
        vouchers: &[VoucherId],
    ) -> Result<HashMap<VoucherId, Epoch>, OrderbookError> {
        let epochs = self.numbers_of("epoch", vouchers).await?.into_iter();
        Ok(epochs
            .map(|(sale, epoch)| (sale, Epoch::new(epoch)))
            .collect())
    }

    /// What stands in a column, by sale.
    async fn numbers_of(
        &self,
        column: &'static str,
        vouchers: &[VoucherId],
    ) -> Result<HashMap<VoucherId, i64>, OrderbookError> {
        if vouchers.is_empty() {
            return Ok(HashMap::new());
        }
        let ids: Vec<i64> = vouchers.iter().map(|voucher| voucher.get()).collect();
        let sql = format!("SELECT voucher_id, {column} FROM vouchers WHERE voucher_id = ANY($1)");
        let rows: Vec<(i64, i64)> = sqlx::query_as(&sql).bind(ids).fetch_all(&self.pool).await?;
        rows.into_iter()
            .map(|(id, number)| Ok((voucher_id(id, "vouchers")?, number)))
            .collect()
    }

    async fn sales_where(
        &self,
        condition: &'static str,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Vec<SaleRow>, OrderbookError> {
        let sql = format!(
            "SELECT {SALE_COLUMNS}, partition, loaded, retired FROM vouchers
              WHERE {condition} AND voucher_id < $1
              ORDER BY voucher_id DESC LIMIT $2"
        );
        let rows: Vec<RawSaleRow> = sqlx::query_as(&sql)
            .bind(before.map_or(i64::MAX, VoucherId::get))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        all(rows)
    }

    /// One order.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn order(&self, id: OrderId) -> Result<Option<Order>, OrderbookError> {
        order_of(&self.pool, id).await
    }

    /// An order and its sale's ledger, in one snapshot: a database that is restored between two
    /// reads would show the position of one life and the rows of another.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn order_as_of(&self, topic: &str, id: OrderId) -> Result<OrderAsOf, OrderbookError> {
        let mut snapshot = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let order = order_of(&mut *snapshot, id).await?;
        let ledger = ledger_of(&mut *snapshot, topic, id.voucher_id()).await?;
        Ok(OrderAsOf { order, ledger })
    }

    /// At most `limit` orders of a buyer, the newest first; `before` is when the last one of the
    /// page before was reserved, and its id.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn orders_of(
        &self,
        user: UserId,
        limit: u32,
        before: Option<(Timestamp, OrderId)>,
    ) -> Result<Vec<Order>, OrderbookError> {
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM orders
              WHERE user_id = $1
                AND ($2::timestamptz IS NULL OR (reserved_at, order_id) < ($2, $3))
              ORDER BY reserved_at DESC, order_id DESC LIMIT $4"
        );
        let rows: Vec<RawOrder> = sqlx::query_as(&sql)
            .bind(user.get())
            .bind(before.map(|(reserved_at, _)| SqlTime(reserved_at)))
            .bind(before.map(|(_, id)| id.as_uuid()))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        all(rows)
    }

    /// The order for which a payment id of a sale came first, honoured or to be given back. Only what
    /// the fold has is known.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn order_of_payment(
        &self,
        voucher: VoucherId,
        payment: &PaymentId,
    ) -> Result<Option<OrderId>, OrderbookError> {
        let id: Option<Uuid> = sqlx::query_scalar(
            "SELECT order_id FROM orders WHERE voucher_id = $1 AND payment_id = $2
             UNION ALL SELECT order_id FROM refunds WHERE voucher_id = $1 AND payment_id = $2",
        )
        .bind(voucher.get())
        .bind(payment.as_str())
        .fetch_optional(&self.pool)
        .await?;
        id.map(|id| order_id(id, "refunds")).transpose()
    }

    /// Those of `orders` for which at least one payment has to go back.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn refund_due(&self, orders: &[OrderId]) -> Result<HashSet<OrderId>, OrderbookError> {
        let ids: Vec<Uuid> = orders.iter().map(|id| id.as_uuid()).collect();
        let rows: Vec<Uuid> =
            sqlx::query_scalar("SELECT DISTINCT order_id FROM refunds WHERE order_id = ANY($1)")
                .bind(ids)
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter().map(|id| order_id(id, "refunds")).collect()
    }

    /// A sale's units with epoch and position of the same moment. Whoever finds an order missing
    /// *after* this read knows that the log below the position does not have it.
    ///
    /// # Errors
    /// As [`Self::sale`].
    pub async fn ledger(
        &self,
        topic: &str,
        voucher: VoucherId,
    ) -> Result<Option<LedgerRow>, OrderbookError> {
        ledger_of(&self.pool, topic, voucher).await
    }
}

/// Initial, adjusted, available, unpaid and paid units; retired; epoch, position.
type RawLedger = (i64, i64, i64, i64, i64, bool, i64, i64);

async fn order_of(
    executor: impl PgExecutor<'_>,
    id: OrderId,
) -> Result<Option<Order>, OrderbookError> {
    let sql = format!("SELECT {ORDER_COLUMNS} FROM orders WHERE order_id = $1");
    let row: Option<RawOrder> = sqlx::query_as(&sql)
        .bind(id.as_uuid())
        .fetch_optional(executor)
        .await?;
    row.map(Order::try_from).transpose()
}

async fn ledger_of(
    executor: impl PgExecutor<'_>,
    topic: &str,
    voucher: VoucherId,
) -> Result<Option<LedgerRow>, OrderbookError> {
    let row: Option<RawLedger> = sqlx::query_as(
        "SELECT initial_stock, adjusted, stock_left, unpaid_units, paid_units, retired, epoch,
                coalesce(next_offset, 0)
           FROM vouchers
           LEFT JOIN view_positions AS p
             ON p.view = 'orders' AND p.topic = $1 AND p.partition = vouchers.partition
          WHERE voucher_id = $2",
    )
    .bind(topic)
    .bind(voucher.get())
    .fetch_optional(executor)
    .await?;
    Ok(row.map(
        |(initial, adjusted, available, unpaid, paid, retired, epoch, position)| LedgerRow {
            initial,
            adjusted,
            available,
            unpaid,
            paid,
            retired,
            epoch: Epoch::new(epoch),
            position: Offset::new(position),
        },
    ))
}
