//! Books beside the view: voucher ids, the admin API's idempotency keys, the operators' audit.

use seckill_domain::{KeyHash, VoucherId};

use crate::connections::Connection;
use crate::rows::voucher_id;
use crate::{Orderbook, OrderbookError};

/// What became of a request to put up a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduledRequest {
    /// The key is new: the sale gets this id.
    New(VoucherId),
    /// The same request again: the sale has this id. Its event may be missing from the log, if the
    /// first request's process died; a second one changes nothing.
    Same(VoucherId),
    /// The key came with another body before.
    Reused,
}

/// An operator's command that changed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEntry<'a> {
    /// Who.
    pub actor: &'a str,
    /// What, as it was typed.
    pub command: &'a str,
    /// Why, in the operator's words.
    pub reason: &'a str,
    /// How many records, rows or keys it touched.
    pub affected: i64,
}

impl Orderbook {
    /// An id that no sale has had.
    ///
    /// # Errors
    /// When the database fails, or [`OrderbookError::NoVoucherIdLeft`].
    pub async fn new_voucher_id(&self) -> Result<VoucherId, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        let new = next_voucher_id(&mut transaction).await?;
        transaction.commit().await?;
        Ok(new)
    }

    /// The voucher id of a request that came with an idempotency key: the same for the same key and
    /// body, however often and wherever it comes in.
    ///
    /// # Errors
    /// As [`Self::new_voucher_id`].
    pub async fn scheduled_request(
        &self,
        key_hash: KeyHash,
        body_hash: KeyHash,
    ) -> Result<ScheduledRequest, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        // Taking an id locks its only row, so that equal requests come here one after the other.
        let new = next_voucher_id(&mut transaction).await?;
        let earlier: Option<(Vec<u8>, i64)> =
            sqlx::query_as("SELECT body_hash, voucher_id FROM sale_requests WHERE key_hash = $1")
                .bind(key_hash.as_bytes().as_slice())
                .fetch_optional(&mut *transaction)
                .await?;
        match earlier {
            Some((body, id)) if body == body_hash.as_bytes() => {
                Ok(ScheduledRequest::Same(voucher_id(id, "sale_requests")?))
            }
            Some(_) => Ok(ScheduledRequest::Reused),
            None => {
                sqlx::query(
                    "INSERT INTO sale_requests (key_hash, body_hash, voucher_id)
                     VALUES ($1, $2, $3)",
                )
                .bind(key_hash.as_bytes().as_slice())
                .bind(body_hash.as_bytes().as_slice())
                .bind(new.get())
                .execute(&mut *transaction)
                .await?;
                transaction.commit().await?;
                Ok(ScheduledRequest::New(new))
            }
        }
    }

    /// Notes what an operator did, by the database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, entry: AuditEntry<'_>) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}

pub(crate) async fn insert_audit(
    connection: &mut Connection,
    entry: AuditEntry<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO ops_audit (actor, command, reason, affected) VALUES ($1, $2, $3, $4)")
        .bind(entry.actor)
        .bind(entry.command)
        .bind(entry.reason)
        .bind(entry.affected)
        .execute(connection)
        .await?;
    Ok(())
}

async fn next_voucher_id(connection: &mut Connection) -> Result<VoucherId, OrderbookError> {
    let id: Option<i64> = sqlx::query_scalar(
        "UPDATE voucher_ids SET last_id = last_id + 1 WHERE last_id < $1 RETURNING last_id",
    )
    .bind(VoucherId::MAX.cast_signed())
    .fetch_optional(connection)
    .await?;
    voucher_id(id.ok_or(OrderbookError::NoVoucherIdLeft)?, "voucher_ids")
}
