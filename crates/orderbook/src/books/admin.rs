//! Tables beside the view: voucher ids, the idempotency keys of the admin API, the operators' audit.

use seckill_domain::{EventId, KeyHash, Timestamp, TraceParent, VoucherId};
use sqlx::FromRow;

use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::rows::voucher_id;
use crate::database::sql_time::SqlTime;

/// An idempotency key and the request that it came with, both as hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestKey {
    /// The hash of the key.
    pub key: KeyHash,
    /// The hash of the whole request.
    pub request: KeyHash,
}

/// The result of a request to schedule or to change a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaleRequest {
    /// The key is new, or there is no key. The request is about this sale.
    New(VoucherId),
    /// A repetition of the same request about this sale. If the process of the first request died, its event
    /// may be missing from the log. A second event changes nothing.
    Same(VoucherId),
    /// The key was used for another request before.
    Reused,
}

/// What an operator does or asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEntry<'a> {
    /// Who.
    pub actor: &'a str,
    /// What: the command as it was typed, or the request to the admin API.
    pub command: &'a str,
    /// Why, in the operator's words.
    pub reason: &'a str,
    /// Where it came from, as observed and not as the caller says: the address of a request, or the account
    /// and the machine of a command.
    pub origin: Option<&'a str>,
    /// How many records, rows or keys it touched; of a request to the admin API, how many events it
    /// asked for.
    pub affected: i64,
    /// The sale, where it is one sale's.
    pub voucher_id: Option<VoucherId>,
    /// The trace of the event that follows.
    pub trace: Option<TraceParent>,
}

/// What an operator did to a sale, or asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditedDeed {
    /// By the database's clock.
    pub at: Timestamp,
    /// Who; the address of a request where nobody's name was known.
    pub actor: String,
    /// As [`AuditEntry::command`].
    pub command: String,
    /// The operator's; empty where there is none.
    pub reason: String,
}

#[derive(FromRow)]
struct RawDeed {
    at: SqlTime,
    actor: String,
    command: String,
    reason: String,
}

impl Orderbook {
    /// Records a request to schedule a sale before anything else is done for it, and returns its voucher id: a
    /// new one, or that of an earlier request with the same key. Repetitions may arrive at any instance.
    ///
    /// # Errors
    /// When the database fails, or [`OrderbookError::NoVoucherIdLeft`].
    pub async fn request_sale(
        &self,
        key: Option<RequestKey>,
        entry: AuditEntry<'_>,
    ) -> Result<SaleRequest, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        let new = next_voucher_id(&mut transaction).await?;
        let noted = note(&mut transaction, key, new, entry).await?;
        // In the other cases the id is not used.
        if let SaleRequest::New(_) = noted {
            transaction.commit().await?;
        }
        Ok(noted)
    }

    /// Records a request to change a sale before anything else is done for it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn request_change(
        &self,
        voucher: VoucherId,
        key: Option<RequestKey>,
        entry: AuditEntry<'_>,
    ) -> Result<SaleRequest, OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        let noted = note(&mut transaction, key, voucher, entry).await?;
        transaction.commit().await?;
        Ok(noted)
    }

    /// Whether the fold has decided on a change of a sale's stock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_adjustment(
        &self,
        voucher: VoucherId,
        event_id: EventId,
    ) -> Result<bool, OrderbookError> {
        let found = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM stock_adjustments WHERE event_id = $1 AND voucher_id = $2)",
        );
        let found = found.bind(event_id.as_uuid()).bind(voucher.get());
        Ok(found.fetch_one(&self.pool).await?)
    }

    /// At most `limit` of what operators did to a sale, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit_of(
        &self,
        voucher: VoucherId,
        limit: u32,
    ) -> Result<Vec<AuditedDeed>, OrderbookError> {
        let deeds = sqlx::query_as::<_, RawDeed>(
            "SELECT at, actor, command, reason FROM ops_audit
              WHERE voucher_id = $1 ORDER BY id DESC LIMIT $2",
        );
        let deeds = deeds.bind(voucher.get()).bind(i64::from(limit));
        let deeds = deeds.fetch_all(&self.pool).await?.into_iter();
        Ok(deeds.map(AuditedDeed::from).collect())
    }

    /// Records what an operator did, with the time of the database's clock.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, entry: AuditEntry<'_>) -> Result<(), OrderbookError> {
        let mut transaction = self.pool.begin().await?;
        insert_audit(&mut transaction, entry).await?;
        Ok(transaction.commit().await?)
    }
}

impl From<RawDeed> for AuditedDeed {
    fn from(raw: RawDeed) -> Self {
        Self {
            at: raw.at.0,
            actor: raw.actor,
            command: raw.command,
            reason: raw.reason,
        }
    }
}

pub(crate) async fn insert_audit(
    connection: &mut Connection,
    entry: AuditEntry<'_>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ops_audit (actor, command, reason, origin, affected, voucher_id, trace_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(entry.actor)
    .bind(entry.command)
    .bind(entry.reason)
    .bind(entry.origin)
    .bind(entry.affected)
    .bind(entry.voucher_id.map(VoucherId::get))
    .bind(entry.trace.as_ref().map(TraceParent::trace_id))
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores the key and writes the audit, or returns the request that had the key before. A request with the
/// same key at the same time waits here for the transaction of the first one.
async fn note(
    connection: &mut Connection,
    key: Option<RequestKey>,
    voucher: VoucherId,
    entry: AuditEntry<'_>,
) -> Result<SaleRequest, OrderbookError> {
    if let Some(key) = key {
        let taken = sqlx::query(
            "INSERT INTO sale_requests (key_hash, body_hash, voucher_id) VALUES ($1, $2, $3)
             ON CONFLICT (key_hash) DO NOTHING",
        )
        .bind(key.key.as_bytes().as_slice())
        .bind(key.request.as_bytes().as_slice())
        .bind(voucher.get())
        .execute(&mut *connection)
        .await?;
        if taken.rows_affected() == 0 {
            return earlier(connection, key).await;
        }
    }
    let voucher_id = Some(voucher);
    insert_audit(
        connection,
        AuditEntry {
            voucher_id,
            ..entry
        },
    )
    .await?;
    Ok(SaleRequest::New(voucher))
}

async fn earlier(
    connection: &mut Connection,
    key: RequestKey,
) -> Result<SaleRequest, OrderbookError> {
    let (request, id): (Vec<u8>, i64) =
        sqlx::query_as("SELECT body_hash, voucher_id FROM sale_requests WHERE key_hash = $1")
            .bind(key.key.as_bytes().as_slice())
            .fetch_one(connection)
            .await?;
    if request == key.request.as_bytes() {
        Ok(SaleRequest::Same(voucher_id(id, "sale_requests")?))
    } else {
        Ok(SaleRequest::Reused)
    }
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
