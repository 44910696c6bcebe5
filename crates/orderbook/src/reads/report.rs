//! The report about a sale: its orders by state, when it sold out, how late orders expired, what is to be refunded.

use seckill_domain::{Timestamp, VoucherId};
use sqlx::FromRow;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::{BEGIN_SNAPSHOT, order_ids_of};
use crate::database::sql_time::SqlTime;

/// A sale's figures, of one moment. Costs as much as the sale has orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleReport {
    /// When orders were first taken.
    pub opens_at: Timestamp,
    /// When no more are taken by its terms.
    pub closes_at: Timestamp,
    /// When an operator ended it before.
    pub closed_at: Option<Timestamp>,
    /// Units at the start, and those added less those taken away since.
    pub units: i64,
    /// Units in paid orders.
    pub paid_units: i64,
    /// Its orders.
    pub orders: OrderFigures,
    /// When the order was reserved that first took the last unit, in the order of the log.
    pub sold_out_at: Option<Timestamp>,
    /// Payments that are to be given back, by reason.
    pub refunds: Vec<RefundFigures>,
}

/// Orders by state. All but the rejected ones were admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderFigures {
    /// Not paid yet.
    pub unpaid: i64,
    /// Of these, past their time to pay.
    pub overdue: i64,
    /// Paid.
    pub paid: i64,
    /// Not paid in time.
    pub expired: i64,
    /// Given up by the buyer.
    pub cancelled: i64,
    /// Rejected by the fold.
    pub rejected: i64,
    /// When the first admitted order was reserved.
    pub first_at: Option<Timestamp>,
    /// When the last admitted order was reserved.
    pub last_at: Option<Timestamp>,
    /// How long after their time to pay orders expired, in milliseconds: the median.
    pub expiry_late_ms_median: Option<i64>,
    /// The same of the latest.
    pub expiry_late_ms_max: Option<i64>,
}

/// Payments that are to be given back for one reason.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct RefundFigures {
    /// Why.
    pub reason: String,
    /// How many.
    pub payments: i64,
    /// How much, in minor units of the currency.
    pub amount_cents: i64,
    /// Of which currency.
    pub currency: String,
}

#[derive(FromRow)]
struct RawSale {
    opens_at: SqlTime,
    closes_at: SqlTime,
    closed_at: Option<SqlTime>,
    units: i64,
    paid_units: i64,
}

#[derive(Default, FromRow)]
struct RawOrders {
    unpaid: i64,
    overdue: i64,
    paid: i64,
    expired: i64,
    cancelled: i64,
    rejected: i64,
    first_at: Option<SqlTime>,
    last_at: Option<SqlTime>,
    median_ms: Option<i64>,
    max_ms: Option<i64>,
}

const SALE: &str =
    "SELECT opens_at, closes_at, closed_at, initial_stock + adjusted AS units, paid_units
  FROM vouchers WHERE voucher_id = $1";

const ORDERS: &str = "
SELECT count(*) FILTER (WHERE status = 'unpaid') AS unpaid,
       count(*) FILTER (WHERE status = 'unpaid' AND pay_by < now()) AS overdue,
       count(*) FILTER (WHERE status = 'paid') AS paid,
       count(*) FILTER (WHERE status = 'expired') AS expired,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE status = 'rejected') AS rejected,
       min(reserved_at) FILTER (WHERE status <> 'rejected') AS first_at,
       max(reserved_at) FILTER (WHERE status <> 'rejected') AS last_at,
       percentile_disc(0.5) WITHIN GROUP (ORDER BY late_ms) AS median_ms,
       max(late_ms) AS max_ms
  FROM (SELECT status, pay_by, reserved_at, CASE WHEN status = 'expired'
          THEN (extract(epoch FROM closed_at - pay_by) * 1000)::bigint END AS late_ms
          FROM orders WHERE order_id BETWEEN $1 AND $2) AS o";

/// In the order of the log, as the fold counted. An adjustment has no time of its own.
const SOLD_OUT: &str = r#"
SELECT at FROM (
  SELECT at, at_offset, (SELECT initial_stock FROM vouchers WHERE voucher_id = $1)
           + sum(units) OVER (ORDER BY at_offset) AS free
    FROM (
      SELECT reserved_at AS at, reserved_offset AS at_offset, -quantity AS units FROM orders
       WHERE order_id BETWEEN $2 AND $3 AND status <> 'rejected'
      UNION ALL
      SELECT NULL, closed_offset, quantity FROM orders
       WHERE order_id BETWEEN $2 AND $3 AND status IN ('expired', 'cancelled')
      UNION ALL
      SELECT NULL, "offset", delta FROM stock_adjustments WHERE voucher_id = $1 AND accepted
    ) AS moved
) AS counted
 WHERE free <= 0 AND at IS NOT NULL ORDER BY at_offset LIMIT 1"#;

const REFUNDS: &str = "
SELECT reason, currency, count(*) AS payments, sum(amount_cents)::bigint AS amount_cents
  FROM refunds WHERE voucher_id = $1 GROUP BY reason, currency ORDER BY reason, currency";

impl From<RawOrders> for OrderFigures {
    fn from(row: RawOrders) -> Self {
        Self {
            unpaid: row.unpaid,
            overdue: row.overdue,
            paid: row.paid,
            expired: row.expired,
            cancelled: row.cancelled,
            rejected: row.rejected,
            first_at: row.first_at.map(|at| at.0),
            last_at: row.last_at.map(|at| at.0),
            expiry_late_ms_median: row.median_ms,
            expiry_late_ms_max: row.max_ms,
        }
    }
}

impl OrderFigures {
    /// Orders that stood, whatever became of them.
    #[must_use]
    pub const fn admitted(&self) -> i64 {
        self.unpaid + self.paid + self.expired + self.cancelled
    }
}

impl SaleReport {
    /// Of the units that were on sale, how many are paid, in percent with one decimal. None: there were none.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    pub fn sell_through_percent(&self) -> Option<f64> {
        let percent = 100.0 * self.paid_units as f64 / self.units as f64;
        (self.units > 0).then_some((percent * 10.0).round() / 10.0)
    }

    /// How long it took from the opening until the last unit was taken.
    #[must_use]
    pub fn sold_out_after_ms(&self) -> Option<i64> {
        let us = self.sold_out_at?.as_micros() - self.opens_at.as_micros();
        Some(us.div_euclid(1_000))
    }
}

/// A change of a sale's stock that the fold has decided.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct StockChange {
    /// Units added, or below 0 taken off.
    pub delta: i64,
    /// Whether the units were there to be taken off, and the sale there to be changed.
    pub accepted: bool,
    /// The operator's.
    pub reason: String,
    /// Where its event stands in the sale's partition.
    pub offset: i64,
}

impl Orderbook {
    /// At most `limit` changes of a sale's stock, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn stock_changes(
        &self,
        voucher: VoucherId,
        limit: u32,
    ) -> Result<Vec<StockChange>, OrderbookError> {
        let changes = sqlx::query_as(
            r#"SELECT delta, accepted, reason, "offset" FROM stock_adjustments
                WHERE voucher_id = $1 ORDER BY "offset" DESC LIMIT $2"#,
        );
        let changes = changes.bind(voucher.get()).bind(i64::from(limit));
        Ok(changes.fetch_all(&self.pool).await?)
    }

    /// The report about a sale, from one snapshot. None: there is no such sale.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn sale_report(
        &self,
        voucher: VoucherId,
    ) -> Result<Option<SaleReport>, OrderbookError> {
        let (first, last) = order_ids_of(voucher);
        let mut snapshot = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let sale: Option<RawSale> = sqlx::query_as(SALE)
            .bind(voucher.get())
            .fetch_optional(&mut *snapshot)
            .await?;
        let Some(sale) = sale else { return Ok(None) };
        let orders: RawOrders = sqlx::query_as(ORDERS)
            .bind(first)
            .bind(last)
            .fetch_one(&mut *snapshot)
            .await?;
        let sold_out: Option<SqlTime> = sqlx::query_scalar(SOLD_OUT)
            .bind(voucher.get())
            .bind(first)
            .bind(last)
            .fetch_optional(&mut *snapshot)
            .await?;
        let refunds = sqlx::query_as(REFUNDS)
            .bind(voucher.get())
            .fetch_all(&mut *snapshot)
            .await?;
        Ok(Some(SaleReport {
            opens_at: sale.opens_at.0,
            closes_at: sale.closes_at.0,
            closed_at: sale.closed_at.map(|at| at.0),
            units: sale.units,
            paid_units: sale.paid_units,
            orders: orders.into(),
            sold_out_at: sold_out.map(|at| at.0),
            refunds,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sale_without_units_has_no_sell_through() {
        let none = SaleReport {
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            closed_at: None,
            units: 0,
            paid_units: 0,
            orders: RawOrders::default().into(),
            sold_out_at: None,
            refunds: Vec::new(),
        };
        assert_eq!(none.sell_through_percent(), None);
        let third = SaleReport {
            units: 3,
            paid_units: 1,
            ..none
        };
        assert_eq!(third.sell_through_percent(), Some(33.3));
    }
}
