//! Looking orders up by what somebody outside knows of them.

use seckill_domain::{Order, OrderId, PaymentId};
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::{ORDER_COLUMNS, RawOrder, all, order_id};

/// A payment id is unique within a sale, and the indexes begin with the sale: one look into each a sale, of those that
/// have refunds also where no row of the sale is. Nothing on the way of an order pays for a search.
const OF_PAYMENT: &str = "
WITH RECURSIVE refunded AS (
  SELECT min(voucher_id) AS id FROM refunds
  UNION ALL
  SELECT (SELECT min(voucher_id) FROM refunds WHERE voucher_id > refunded.id) FROM refunded WHERE id IS NOT NULL
)
SELECT order_id FROM vouchers, LATERAL (
  SELECT order_id FROM orders
   WHERE orders.voucher_id = vouchers.voucher_id AND payment_id = $1 LIMIT 1) AS paid
UNION
SELECT order_id FROM refunded, LATERAL (
  SELECT order_id FROM refunds WHERE voucher_id = refunded.id AND payment_id = $1 LIMIT 1) AS back
ORDER BY order_id LIMIT $2";

impl Orderbook {
    /// At most `limit` orders, of any sale, that a payment with this id came for, honoured or to be given back. The
    /// log may have no such order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn orders_paid_by(
        &self,
        payment: &PaymentId,
        limit: u32,
    ) -> Result<Vec<OrderId>, OrderbookError> {
        let found: Vec<Uuid> = sqlx::query_scalar(OF_PAYMENT)
            .bind(payment.as_str())
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?;
        let ids = found.into_iter().map(|id| order_id(id, "refunds"));
        ids.collect()
    }

    /// Those of `ids` that there are.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn orders(&self, ids: &[OrderId]) -> Result<Vec<Order>, OrderbookError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.as_uuid()).collect();
        // One look into the index for each id: a plan that was made while the table was small would read all of it.
        let sql = format!(
            "SELECT {ORDER_COLUMNS} FROM unnest($1::uuid[]) AS asked (id),
                    LATERAL (SELECT * FROM orders WHERE order_id = asked.id OFFSET 0) AS found"
        );
        let rows: Vec<RawOrder> = sqlx::query_as(&sql).bind(ids).fetch_all(&self.pool).await?;
        all(rows)
    }
}
