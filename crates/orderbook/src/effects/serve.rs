//! Which sales Redis has to serve, and what the tables have about their loads.

use seckill_domain::{Epoch, Offset, VoucherId};
use uuid::Uuid;

use crate::database::connect::Orderbook;
use crate::database::error::OrderbookError;
use crate::database::rows::voucher_id;

/// A sale that is not retired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedSale {
    /// The sale.
    pub voucher_id: VoucherId,
    /// Its partition.
    pub partition: i32,
    /// Its epoch.
    pub epoch: Epoch,
    /// Whether Redis may ever have had it. If not, it can be loaded without an epoch of its own.
    pub loaded: bool,
    /// Whether it accepts no more orders, by the database's clock: it was closed, or its window is over.
    pub over: bool,
    /// Whether it accepts orders now, or within the next minute, or did in the last minute. A fault of such a sale
    /// matters at once.
    pub busy: bool,
    /// Units in unpaid orders: a sale that is over and has none can be retired.
    pub unpaid_units: i64,
}

impl ServedSale {
    /// Whether Redis does not need it any more.
    #[must_use]
    pub const fn can_retire(&self) -> bool {
        self.over && self.unpaid_units == 0
    }
}

/// The state of a sale in Redis when it was removed from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// The sale.
    pub voucher_id: VoucherId,
    /// Its epoch there.
    pub epoch: Epoch,
    /// Its position there.
    pub position: Offset,
}

/// Of a [`Leaving`], bound as $1 to $3, and the topic as $4: whether it is over, and its rows have all that
/// Redis knew of it. A database that was restored may lack orders that Redis still answers for.
const MAY_LEAVE: &str = "voucher_id = $1 AND NOT retired AND epoch = $2 AND unpaid_units = 0
    AND (closed_offset IS NOT NULL OR closes_at <= now())
    AND EXISTS (SELECT FROM view_positions AS p
                 WHERE p.view = 'orders' AND p.topic = $4 AND p.partition = vouchers.partition
                   AND p.next_offset >= $3)";

impl Orderbook {
    /// All sales of these partitions that are not retired, by partition and id.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn sales_to_serve(
        &self,
        partitions: &[i32],
    ) -> Result<Vec<ServedSale>, OrderbookError> {
        let rows: Vec<(i64, i32, i64, bool, bool, bool, i64)> = sqlx::query_as(
            "SELECT voucher_id, partition, epoch, loaded,
                    closed_offset IS NOT NULL OR closes_at <= now(),
                    closed_offset IS NULL AND opens_at <= now() + interval '1 minute'
                        AND closes_at > now() - interval '1 minute',
                    unpaid_units
               FROM vouchers WHERE partition = ANY($1) AND NOT retired
              ORDER BY partition, voucher_id",
        )
        .bind(partitions)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(
                |(voucher, partition, epoch, loaded, over, busy, unpaid_units)| {
                    Ok(ServedSale {
                        voucher_id: voucher_id(voucher, "vouchers")?,
                        partition,
                        epoch: Epoch::new(epoch),
                        loaded,
                        over,
                        busy,
                        unpaid_units,
                    })
                },
            )
            .collect()
    }

    /// Stores that this sale is about to be loaded into Redis. True if this call was the first:
    /// only then the load needs no new epoch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_loaded(&self, voucher: VoucherId) -> Result<bool, OrderbookError> {
        let updated =
            sqlx::query("UPDATE vouchers SET loaded = true WHERE voucher_id = $1 AND NOT loaded")
                .bind(voucher.get())
                .execute(&self.pool)
                .await?;
        Ok(updated.rows_affected() == 1)
    }

    /// Whether a sale may be removed from Redis: it is over, has no unpaid order, and PostgreSQL has everything
    /// that Redis knows about it. Call this before it is removed; [`Self::mark_retired`] checks it again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn may_leave(&self, topic: &str, sale: &Leaving) -> Result<bool, OrderbookError> {
        let sql = format!("SELECT EXISTS (SELECT FROM vouchers WHERE {MAY_LEAVE})");
        let may = sqlx::query_scalar(&sql)
            .bind(sale.voucher_id.get())
            .bind(sale.epoch.get())
            .bind(sale.position.get())
            .bind(topic)
            .fetch_one(&self.pool)
            .await?;
        Ok(may)
    }

    /// Stores that a sale was removed from Redis. False, and nothing is stored, if [`Self::may_leave`] is not true
    /// now.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_retired(&self, topic: &str, sale: &Leaving) -> Result<bool, OrderbookError> {
        let sql = format!("UPDATE vouchers SET retired = true WHERE {MAY_LEAVE}");
        let updated = sqlx::query(&sql)
            .bind(sale.voucher_id.get())
            .bind(sale.epoch.get())
            .bind(sale.position.get())
            .bind(topic)
            .execute(&self.pool)
            .await?;
        Ok(updated.rows_affected() == 1)
    }

    /// Whether the reload under this nonce was accepted; none before the fold has seen it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn reload_verdict(
        &self,
        voucher: VoucherId,
        nonce: Uuid,
    ) -> Result<Option<bool>, OrderbookError> {
        let accepted = sqlx::query_scalar(
            "SELECT accepted FROM sale_reloads WHERE voucher_id = $1 AND nonce = $2",
        )
        .bind(voucher.get())
        .bind(nonce)
        .fetch_optional(&self.pool)
        .await?;
        Ok(accepted)
    }
}
