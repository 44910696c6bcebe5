//! What Redis is loaded with: one sale as it was at one position of the log.

use std::collections::HashSet;

use seckill_domain::{Offset, Order, Sale, VoucherId};
use sqlx::{FromRow, Postgres, Transaction};
use uuid::Uuid;

use crate::positions::fold_position;
use crate::rows::{ORDER_COLUMNS, RawOrder, RawSale, SALE_COLUMNS, all, order_ids_of};
use crate::{Orderbook, OrderbookError};

pub(crate) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// One sale at one position, over a transaction that is held open: batches folded meanwhile are not
/// seen. Drop it to end the transaction.
#[derive(Debug)]
pub struct LoadSnapshot {
    transaction: Transaction<'static, Postgres>,
    sale: Sale,
    position: Offset,
}

#[derive(FromRow)]
struct RawLoad {
    #[sqlx(flatten)]
    sale: RawSale,
    partition: i32,
}

impl Orderbook {
    /// Opens a snapshot of a sale; none where the log has no such sale yet, or it is retired.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn load_snapshot(
        &self,
        topic: &str,
        voucher: VoucherId,
    ) -> Result<Option<LoadSnapshot>, OrderbookError> {
        let mut transaction = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let sql = format!(
            "SELECT {SALE_COLUMNS}, partition FROM vouchers WHERE voucher_id = $1 AND NOT retired"
        );
        let row: Option<RawLoad> = sqlx::query_as(&sql)
            .bind(voucher.get())
            .fetch_optional(&mut *transaction)
            .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        let position = fold_position(&mut transaction, topic, row.partition).await?;
        open_holds(&mut transaction, voucher).await?;
        Ok(Some(LoadSnapshot {
            transaction,
            sale: row.sale.try_into()?,
            position,
        }))
    }
}

/// A cursor, because the orders are sorted by buyer once for all pages.
async fn open_holds(
    transaction: &mut Transaction<'static, Postgres>,
    voucher: VoucherId,
) -> Result<(), sqlx::Error> {
    // The first page sorts all of the sale's orders, which a timeout for point reads would end.
    sqlx::query("SET LOCAL statement_timeout = '60s'")
        .execute(&mut **transaction)
        .await?;
    let (first, last) = order_ids_of(voucher);
    let sql = format!(
        "DECLARE holds NO SCROLL CURSOR FOR
         SELECT DISTINCT ON (user_id) {ORDER_COLUMNS} FROM orders
          WHERE order_id BETWEEN $1 AND $2 AND (status <> 'rejected' OR key_hash IS NOT NULL)
          ORDER BY user_id, status IN ('unpaid', 'paid') DESC, key_hash IS NOT NULL DESC,
                   reserved_offset DESC"
    );
    sqlx::query(&sql)
        .persistent(false)
        .bind(first)
        .bind(last)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

impl LoadSnapshot {
    /// The sale.
    #[must_use]
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// The fold's position: every record of the sale below it is in here, and none above.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.position
    }

    /// The next at most `limit` buyers' orders, ascending by user id, one a buyer: the live one; if
    /// there is none, the last one with a key hash; if there is none, the last one (but not a
    /// rejected one, which without a key means nothing to Redis). Empty when all were given.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn next_holds(&mut self, limit: usize) -> Result<Vec<Order>, OrderbookError> {
        let sql = format!("FETCH FORWARD {limit} FROM holds");
        let rows: Vec<RawOrder> = sqlx::query_as(&sql)
            // The same text would mean another cursor in the connection's next snapshot.
            .persistent(false)
            .fetch_all(&mut *self.transaction)
            .await?;
        all(rows)
    }

    /// Those of `ids` that the log has, as orders or as adjustments, by this position.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn known(&mut self, ids: &[Uuid]) -> Result<HashSet<Uuid>, OrderbookError> {
        let rows: Vec<Uuid> = sqlx::query_scalar(
            "SELECT order_id FROM orders WHERE order_id = ANY($1)
             UNION ALL
             SELECT event_id FROM stock_adjustments WHERE event_id = ANY($1)",
        )
        .bind(ids)
        .fetch_all(&mut *self.transaction)
        .await?;
        Ok(rows.into_iter().collect())
    }
}
