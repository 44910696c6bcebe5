//! Unpaid orders whose time is over. A claim keeps several instances from doing the same work; it
//! decides nothing, because a second expiry of an order changes nothing.

use std::time::Duration;

use seckill_domain::{OrderId, Timestamp};
use uuid::Uuid;

use crate::rows::order_id;
use crate::sql_time::{SqlTime, interval};
use crate::{Orderbook, OrderbookError};

/// An unpaid order whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueOrder {
    /// The order.
    pub order_id: OrderId,
    /// Until when it could be paid.
    pub pay_by: Timestamp,
}

impl Orderbook {
    /// The database's clock, by which orders expire.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn now(&self) -> Result<Timestamp, OrderbookError> {
        let now: SqlTime = sqlx::query_scalar("SELECT clock_timestamp()")
            .fetch_one(&self.pool)
            .await?;
        Ok(now.0)
    }

    /// At most `limit` unpaid orders that were to be paid more than `grace` ago, the oldest first.
    /// Nobody else is given them for `claim_for`. Locks claims only, and only during this call.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn claim_due(
        &self,
        grace: Duration,
        limit: u32,
        claim_for: Duration,
    ) -> Result<Vec<DueOrder>, OrderbookError> {
        // All instances insert in one order, so that they wait for each other but never in a circle.
        let rows: Vec<(Uuid, SqlTime)> = sqlx::query_as(
            "WITH due AS MATERIALIZED (
                 SELECT order_id, pay_by FROM orders
                  WHERE status = 'unpaid' AND pay_by < now() - $1::interval
                    AND NOT EXISTS (SELECT FROM expiry_claims AS c
                                     WHERE c.order_id = orders.order_id AND c.until > now())
                  ORDER BY pay_by, order_id LIMIT $2
             ), claimed AS (
                 INSERT INTO expiry_claims AS c (order_id, until)
                 SELECT order_id, now() + $3::interval FROM due ORDER BY pay_by, order_id
                 ON CONFLICT (order_id) DO UPDATE SET until = excluded.until
                         WHERE c.until <= now()
                 RETURNING order_id
             )
             SELECT order_id, pay_by FROM due JOIN claimed USING (order_id)
              ORDER BY pay_by, order_id",
        )
        .bind(interval(grace))
        .bind(i64::from(limit))
        .bind(interval(claim_for))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|(id, pay_by)| {
                Ok(DueOrder {
                    order_id: order_id(id, "orders")?,
                    pay_by: pay_by.0,
                })
            })
            .collect()
    }

    /// Deletes the claims that have run out, and says how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_claims(&self) -> Result<u64, OrderbookError> {
        // Claims that are being renewed are passed over: waiting for them could go in a circle.
        let deleted = sqlx::query(
            "DELETE FROM expiry_claims WHERE order_id IN (
                 SELECT order_id FROM expiry_claims WHERE until <= now() FOR UPDATE SKIP LOCKED)",
        )
        .execute(&self.pool)
        .await?;
        Ok(deleted.rows_affected())
    }
}
