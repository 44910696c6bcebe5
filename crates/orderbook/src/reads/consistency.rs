//! What the projector's consistency check compares with Redis, and with each other.

use seckill_domain::{Epoch, Offset, VoucherId};
use sqlx::FromRow;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::{order_ids_of, voucher_id};

/// A sale's units as they were at an earlier position of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaleUnits {
    /// The sale.
    pub voucher_id: VoucherId,
    /// Its epoch now.
    pub epoch: Epoch,
    /// The fold's position, at which this was read.
    pub position: Offset,
    /// Units free now.
    pub available: i64,
    /// Units in live orders now.
    pub live: i64,
    /// Units that orders have taken since the earlier position, less those that came back.
    pub taken_since: i64,
    /// Units that adjustments have added since.
    pub added_since: i64,
}

/// A sale's units as its row has them, and as its orders have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct OrderSums {
    /// By the row: units in unpaid orders.
    pub unpaid_units: i64,
    /// By the row: units in paid orders.
    pub paid_units: i64,
    /// By the row: units that were added, less those taken away.
    pub adjusted: i64,
    /// By the orders themselves.
    pub unpaid_in_orders: i64,
    /// By the orders themselves.
    pub paid_in_orders: i64,
    /// By the accepted adjustments themselves.
    pub adjusted_in_rows: i64,
    /// Payments that both paid an order and are to be refunded.
    pub payments_with_two_ends: i64,
}

#[derive(FromRow)]
struct RawUnits {
    voucher_id: i64,
    epoch: i64,
    next_offset: i64,
    available: i64,
    live: i64,
    taken_since: i64,
    added_since: i64,
}

/// One statement, so one snapshot. The placeholders are conditions that say which index finds the rows: the
/// planner's own choice changes with what it believes of orders that are newer than its statistics.
const UNITS_SINCE: &str = r#"
WITH asked AS (SELECT * FROM unnest($3::bigint[], $4::bigint[]) AS a (voucher_id, since)),
moved AS (
  SELECT voucher_id, sum(taken)::bigint AS taken, sum(added)::bigint AS added FROM (
    SELECT voucher_id, quantity AS taken, 0 AS added, at FROM (
      SELECT voucher_id, quantity, reserved_offset AS at FROM orders
       WHERE {reserved} AND status <> 'rejected' OFFSET 0) AS o
    UNION ALL
    SELECT voucher_id, -quantity, 0, at FROM (
      SELECT voucher_id, quantity, closed_offset AS at FROM orders
       WHERE {closed} AND status IN ('expired', 'cancelled') OFFSET 0) AS o
    UNION ALL
    SELECT voucher_id, 0, delta, "offset" FROM stock_adjustments
     WHERE partition = $2 AND "offset" >= $5 AND accepted
  ) AS m JOIN asked USING (voucher_id) WHERE at >= since GROUP BY voucher_id
)
SELECT voucher_id, epoch, next_offset, stock_left AS available,
       unpaid_units + paid_units AS live, coalesce(taken, 0) AS taken_since,
       coalesce(added, 0) AS added_since
  FROM asked JOIN vouchers USING (voucher_id)
  JOIN view_positions p ON p.view = 'orders' AND p.topic = $1 AND p.partition = $2
  LEFT JOIN moved USING (voucher_id)"#;

/// Which rows are read to find what has moved in some sales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Those of the whole partition, from the lowest of the positions on: for positions that are recent.
    Offsets,
    /// All orders of the sales, and of those between them: for one sale whose position is long ago.
    OrderIds,
}

impl Through {
    fn conditions(self) -> (&'static str, &'static str) {
        match self {
            Self::Offsets => (
                "partition = $2 AND reserved_offset >= $5",
                "partition = $2 AND closed_offset >= $5",
            ),
            Self::OrderIds => ("order_id BETWEEN $6 AND $7", "order_id BETWEEN $6 AND $7"),
        }
    }
}

/// A scan of the table is never what is meant.
const BEGIN_UNITS: &str =
    "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL enable_seqscan = off";

impl Orderbook {
    /// Units of sales of one partition, all from one snapshot, each with what has moved since an
    /// earlier position. A sale that the tables don't have is left out.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn units_since(
        &self,
        topic: &str,
        partition: i32,
        sales: &[(VoucherId, Offset)],
        through: Through,
    ) -> Result<Vec<SaleUnits>, OrderbookError> {
        let ids = sales.iter().map(|(voucher, _)| *voucher);
        let (Some(lowest), Some(highest)) = (ids.clone().min(), ids.clone().max()) else {
            return Ok(Vec::new());
        };
        let since: Vec<i64> = sales.iter().map(|(_, since)| since.get()).collect();
        let (reserved, closed) = through.conditions();
        let sql = UNITS_SINCE
            .replace("{reserved}", reserved)
            .replace("{closed}", closed);
        let mut snapshot = self.pool.begin_with(BEGIN_UNITS).await?;
        let mut query = sqlx::query_as(&sql)
            .bind(topic)
            .bind(partition)
            .bind(ids.map(VoucherId::get).collect::<Vec<_>>())
            .bind(&since)
            .bind(since.iter().min().copied().unwrap_or(0));
        if through == Through::OrderIds {
            query = query
                .bind(order_ids_of(lowest).0)
                .bind(order_ids_of(highest).1);
        }
        let rows: Vec<RawUnits> = query.fetch_all(&mut *snapshot).await?;
        snapshot.commit().await?;
        let units = |row: RawUnits| {
            Ok(SaleUnits {
                voucher_id: voucher_id(row.voucher_id, "vouchers")?,
                epoch: Epoch::new(row.epoch),
                position: Offset::new(row.next_offset),
                available: row.available,
                live: row.live,
                taken_since: row.taken_since,
                added_since: row.added_since,
            })
        };
        rows.into_iter().map(units).collect()
    }

    /// A sale's row beside its orders, adjustments and payments, from one snapshot. None: there is no
    /// such row. Costs as much as the sale has orders.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn order_sums(
        &self,
        voucher: VoucherId,
    ) -> Result<Option<OrderSums>, OrderbookError> {
        let (first, last) = order_ids_of(voucher);
        let sums = sqlx::query_as(
            "SELECT unpaid_units, paid_units, adjusted, unpaid_in_orders, paid_in_orders,
                    (SELECT coalesce(sum(delta), 0)::bigint FROM stock_adjustments
                      WHERE voucher_id = $1 AND accepted) AS adjusted_in_rows,
                    (SELECT count(*) FROM orders JOIN refunds USING (voucher_id, payment_id)
                      WHERE voucher_id = $1 AND orders.order_id BETWEEN $2 AND $3)
                      AS payments_with_two_ends
               FROM vouchers, (
                 SELECT coalesce(sum(quantity) FILTER (WHERE status = 'unpaid'), 0)::bigint
                          AS unpaid_in_orders,
                        coalesce(sum(quantity) FILTER (WHERE status = 'paid'), 0)::bigint
                          AS paid_in_orders
                   FROM orders WHERE order_id BETWEEN $2 AND $3) AS sums
              WHERE voucher_id = $1",
        )
        .bind(voucher.get())
        .bind(first)
        .bind(last)
        .fetch_optional(&self.pool)
        .await?;
        Ok(sums)
    }
}
