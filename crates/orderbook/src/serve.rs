//! Which sales Redis has to serve, and what is on record about their loads.

use seckill_domain::{Epoch, VoucherId};
use uuid::Uuid;

use crate::rows::voucher_id;
use crate::{Orderbook, OrderbookError};

/// A sale that has not left Redis for good.
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
    /// Whether it is off the shelf.
    pub closed: bool,
    /// Units in unpaid orders: a closed sale with none can be retired.
    pub unpaid_units: i64,
}

impl Orderbook {
    /// All sales of these partitions that are not retired, by partition and id.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn sales_to_serve(
        &self,
        partitions: &[i32],
    ) -> Result<Vec<ServedSale>, OrderbookError> {
        let rows: Vec<(i64, i32, i64, bool, bool, i64)> = sqlx::query_as(
            "SELECT voucher_id, partition, epoch, loaded, closed_offset IS NOT NULL, unpaid_units
               FROM vouchers WHERE partition = ANY($1) AND NOT retired
              ORDER BY partition, voucher_id",
        )
        .bind(partitions)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(
                |(voucher, partition, epoch, loaded, closed, unpaid_units)| {
                    Ok(ServedSale {
                        voucher_id: voucher_id(voucher, "vouchers")?,
                        partition,
                        epoch: Epoch::new(epoch),
                        loaded,
                        closed,
                        unpaid_units,
                    })
                },
            )
            .collect()
    }

    /// Notes that Redis is about to be loaded with this sale. True if this call was the first:
    /// only then the load needs no new epoch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_loaded(&self, voucher: VoucherId) -> Result<bool, OrderbookError> {
        self.set_flag(
            "UPDATE vouchers SET loaded = true WHERE voucher_id = $1 AND NOT loaded",
            voucher,
        )
        .await
    }

    /// Notes that a sale has left Redis for good. False if it is retired already, or not closed, or
    /// has unpaid orders.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_retired(&self, voucher: VoucherId) -> Result<bool, OrderbookError> {
        self.set_flag(
            "UPDATE vouchers SET retired = true
              WHERE voucher_id = $1 AND NOT retired AND closed_offset IS NOT NULL
                AND unpaid_units = 0",
            voucher,
        )
        .await
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

    async fn set_flag(&self, sql: &str, voucher: VoucherId) -> Result<bool, OrderbookError> {
        let updated = sqlx::query(sql)
            .bind(voucher.get())
            .execute(&self.pool)
            .await?;
        Ok(updated.rows_affected() == 1)
    }
}
