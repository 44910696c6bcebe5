//! Unpaid orders whose time to pay is over. A claim prevents several instances from doing the same work. It
//! decides nothing, because a second expiry of an order changes nothing. An order whose expiry is in the log
//! and that is still unpaid waits for the fold, so each claim of it is longer than the one before.
//!
//! The time until which an order can be paid comes from Redis' clock. If that clock was slow and is corrected,
//! orders would lose time that was promised to them. The broker's clock says as well when they were made: if
//! its time is later, it counts. The fold stores it (`expiries_not_before`) and decides nothing by it.

use std::time::Duration;

use seckill_domain::{Offset, OrderId, Timestamp};
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::rows::order_id;
use crate::database::sql_time::{SqlTime, interval};

/// The longest claim.
const LONGEST_CLAIM: Duration = Duration::from_secs(600);
/// By how much each claim of an order is longer than the one before. With a first claim of 10 s, four are
/// made in three minutes: after 0, 10, 40 and 130 s.
const CLAIM_GROWTH: i32 = 3;
/// After so many claims a claim has the longest time, whatever the first one had.
const MOST_GROWTHS: i32 = 8;

/// Claims come and go by the ten thousand, so the statistics of their table are always wrong, and with a nested loop the
/// planner reads all claims for each order that is due. The statements therefore look a claim up by its order's key, in
/// a scalar subquery, which PostgreSQL never turns into a join, and no other plan than by an index is left to them.
const BEGIN_BY_KEY: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; \
    SET LOCAL enable_bitmapscan = off; SET LOCAL enable_nestloop = off";

/// An unpaid order whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DueOrder {
    /// The order.
    pub order_id: OrderId,
    /// Until when it could be paid.
    pub pay_by: Timestamp,
    /// The database's time by which it was found due: when it expires.
    pub claimed_at: Timestamp,
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

    /// The end of the time to pay of the oldest order that is due: unpaid, and its time to pay ended more than
    /// `grace` ago. Claimed orders count too. None if no order is due.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn oldest_due(&self, grace: Duration) -> Result<Option<Timestamp>, OrderbookError> {
        let oldest: Option<SqlTime> = sqlx::query_scalar(
            "SELECT min(pay_by) FROM orders WHERE status = 'unpaid' AND pay_by < now() - $1::interval
                AND ((SELECT not_before FROM expiries_not_before AS late
                       WHERE late.order_id = orders.order_id) >= now() - $1::interval) IS NOT TRUE",
        )
        .bind(interval(grace))
        .fetch_one(&self.pool)
        .await?;
        Ok(oldest.map(|pay_by| pay_by.0))
    }

    /// How long ago the time to pay of the oldest unpaid order ended, by the database's clock; zero if none has ended.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expiry_lateness(&self) -> Result<Duration, OrderbookError> {
        let seconds: Option<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM now() - min(pay_by))::float8 FROM orders
              WHERE status = 'unpaid' AND pay_by < now()
                AND ((SELECT not_before FROM expiries_not_before AS late
                       WHERE late.order_id = orders.order_id) >= now()) IS NOT TRUE",
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(Duration::from_secs_f64(seconds.unwrap_or(0.0).max(0.0)))
    }

    /// Claims at most `limit` unpaid orders whose time to pay ended more than `grace` ago, the oldest first.
    /// No other caller gets them for `claim_for`, or for three times as long as at the last claim, up to ten
    /// minutes. Locks claims only, and only during this call.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn claim_due(
        &self,
        grace: Duration,
        limit: u32,
        claim_for: Duration,
    ) -> Result<Vec<DueOrder>, OrderbookError> {
        let mut transaction = self.pool.begin_with(BEGIN_BY_KEY).await?;
        // All instances insert in the same order, so that they cannot deadlock.
        let rows: Vec<(Uuid, SqlTime, SqlTime)> = sqlx::query_as(
            "WITH due AS MATERIALIZED (
                 SELECT order_id, pay_by FROM orders
                  WHERE status = 'unpaid' AND pay_by < now() - $1::interval
                    AND ((SELECT until FROM expiry_claims AS c
                           WHERE c.order_id = orders.order_id) > now()) IS NOT TRUE
                    AND ((SELECT not_before FROM expiries_not_before AS late
                           WHERE late.order_id = orders.order_id) >= now() - $1::interval) IS NOT TRUE
                  ORDER BY pay_by, order_id LIMIT $2
             ), claimed AS (
                 INSERT INTO expiry_claims AS c (order_id, until, attempts)
                 SELECT order_id, now() + least($3::interval, $4::interval), 1
                   FROM due ORDER BY pay_by, order_id
                 ON CONFLICT (order_id) DO UPDATE SET attempts = c.attempts + 1, until = now() +
                               least($3::interval * power($5, least(c.attempts, $6)), $4::interval)
                         WHERE c.until <= now()
                 RETURNING order_id
             )
             SELECT order_id, pay_by, now() FROM due JOIN claimed USING (order_id)
              ORDER BY pay_by, order_id",
        )
        .bind(interval(grace))
        .bind(i64::from(limit))
        .bind(interval(claim_for))
        .bind(interval(LONGEST_CLAIM))
        .bind(CLAIM_GROWTH)
        .bind(MOST_GROWTHS)
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        rows.into_iter()
            .map(|(id, pay_by, claimed_at)| {
                Ok(DueOrder {
                    order_id: order_id(id, "orders")?,
                    pay_by: pay_by.0,
                    claimed_at: claimed_at.0,
                })
            })
            .collect()
    }

    /// For claimed orders whose expiries may not be in the log: the next claim is possible after `claim_for`, and
    /// is not longer than this one. Not sooner, because the expiries may still be written to the log.
    ///
    /// # Errors
    /// When the database fails; the orders then wait until their claims run out.
    pub async fn shorten_claims(
        &self,
        orders: &[OrderId],
        claim_for: Duration,
    ) -> Result<(), OrderbookError> {
        let orders: Vec<Uuid> = orders.iter().map(|order| order.as_uuid()).collect();
        // Claims that another instance has taken meanwhile are left out.
        sqlx::query(
            "UPDATE expiry_claims SET attempts = greatest(attempts - 1, 0),
                    until = least(until, now() + $2::interval)
              WHERE order_id IN (SELECT order_id FROM expiry_claims
                                  WHERE order_id = ANY($1) AND until > now() FOR UPDATE SKIP LOCKED)",
        )
        .bind(orders)
        .bind(interval(claim_for))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Deletes the claims of orders that are not unpaid any more, and says how many, and what else is noted
    /// of them. Claims of unpaid orders
    /// stay, also when they have run out: they say how long the next claim is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_claims(&self) -> Result<u64, OrderbookError> {
        let mut transaction = self.pool.begin_with(BEGIN_BY_KEY).await?;
        // Claims that are being renewed are left out: waiting for them could deadlock.
        let deleted = sqlx::query(
            "DELETE FROM expiry_claims WHERE order_id IN (
                 SELECT order_id FROM expiry_claims AS c
                  WHERE ((SELECT status FROM orders
                           WHERE orders.order_id = c.order_id) = 'unpaid') IS NOT TRUE
                    FOR UPDATE OF c SKIP LOCKED)",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "DELETE FROM expiries_not_before AS late
              WHERE ((SELECT status FROM orders
                       WHERE orders.order_id = late.order_id) = 'unpaid') IS NOT TRUE",
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected())
    }
}

/// Stores until when orders can be paid that were written to the log late.
pub(crate) async fn note_late(
    connection: &mut Connection,
    late: &[(Offset, (OrderId, Timestamp))],
) -> Result<(), sqlx::Error> {
    if late.is_empty() {
        return Ok(());
    }
    let (orders, times): (Vec<Uuid>, Vec<SqlTime>) = late
        .iter()
        .map(|(_, (order, not_before))| (order.as_uuid(), SqlTime(*not_before)))
        .unzip();
    // For an event that was published twice, the time of its first copy counts.
    sqlx::query(
        "INSERT INTO expiries_not_before (order_id, not_before)
         SELECT * FROM unnest($1::uuid[], $2::timestamptz[]) ON CONFLICT (order_id) DO NOTHING",
    )
    .bind(orders)
    .bind(times)
    .execute(connection)
    .await?;
    Ok(())
}
