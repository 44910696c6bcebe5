//! Effects, read from the rows. This is their only source, also when nothing failed.

use seckill_domain::{
    AdjustmentRow, Effect, Offset, Order, Refund, Sale, VoucherId, effects_of_adjustment,
    effects_of_order, effects_of_refund, effects_of_sale,
};

use crate::database::connect::Orderbook;
use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::rows::{
    BEGIN_SNAPSHOT, ORDER_COLUMNS, RawAdjustment, RawOrder, RawRefund, RawSale, SALE_COLUMNS, all,
};
use crate::fold::positions::position_in_log;
use crate::fold::skips::{SkippedRecord, skipped_in};

/// The effects of a range of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectsPage {
    /// Ascending by offset; at most one an offset.
    pub effects: Vec<Effect>,
    /// The records that were passed over, ascending: each has to become a dead letter. Only in the pages
    /// of a whole partition.
    pub skipped: Vec<SkippedRecord>,
    /// All of that in `[from, to)` is here. The bound that was asked for, or the fold's position,
    /// unless the limit cut the page off.
    pub to: Offset,
    /// The number of the log that the offsets are of.
    pub log_number: i32,
}

/// The partition or the sale whose effects are read, and the range.
struct Range {
    partition: i32,
    voucher: Option<i64>,
    from: i64,
    to: i64,
    /// Of rows a table.
    limit: i64,
}

impl Orderbook {
    /// The next effects of a partition, at most `limit`, all from one snapshot.
    ///
    /// # Errors
    /// When the database fails or has a row that no fold writes.
    pub async fn effects_page(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        limit: usize,
    ) -> Result<EffectsPage, OrderbookError> {
        self.page(topic, partition, None, from, None, limit).await
    }

    /// The same for one voucher of the partition, up to `to` if there is one: for a view of that
    /// sale which is behind the partition's.
    ///
    /// # Errors
    /// As [`Self::effects_page`].
    pub async fn effects_of_voucher(
        &self,
        topic: &str,
        partition: i32,
        voucher: VoucherId,
        from: Offset,
        to: Option<Offset>,
        limit: usize,
    ) -> Result<EffectsPage, OrderbookError> {
        self.page(topic, partition, Some(voucher), from, to, limit)
            .await
    }

    async fn page(
        &self,
        topic: &str,
        partition: i32,
        voucher: Option<VoucherId>,
        from: Offset,
        to: Option<Offset>,
        limit: usize,
    ) -> Result<EffectsPage, OrderbookError> {
        let mut snapshot = self.pool.begin_with(BEGIN_SNAPSHOT).await?;
        let (folded, log_number) = position_in_log(&mut snapshot, topic, partition).await?;
        let to = to.map_or(folded, |to| to.min(folded)).max(from);
        let range = Range {
            partition,
            voucher: voucher.map(VoucherId::get),
            from: from.get(),
            to: to.get(),
            // One more than asked for shows whether the page is cut off.
            limit: i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1),
        };
        let effects = effects_in(&mut snapshot, &range).await?;
        let skipped = if voucher.is_some() {
            Vec::new()
        } else {
            skipped_in(&mut snapshot, topic, partition, (from, to), range.limit).await?
        };
        snapshot.commit().await?;
        let page = EffectsPage {
            effects,
            skipped,
            to,
            log_number,
        };
        Ok(cut(page, from, limit))
    }
}

/// Sorts and cuts. A row brings the effects of both of its records: the one out of the range goes,
/// and so does the double of an order that was found by both.
fn cut(mut page: EffectsPage, from: Offset, limit: usize) -> EffectsPage {
    let EffectsPage {
        effects,
        skipped,
        to,
        ..
    } = &mut page;
    effects.retain(|effect| (from..*to).contains(&effect.offset));
    effects.sort_unstable_by_key(|effect| effect.offset);
    effects.dedup_by_key(|effect| effect.offset);
    // Each list was read up to the limit: the page ends where the first of them was cut off.
    let ends = [
        effects.get(limit).map(|effect| effect.offset),
        skipped.get(limit).map(|record| record.offset),
    ];
    *to = ends.into_iter().flatten().min().unwrap_or(*to);
    effects.retain(|effect| effect.offset < *to);
    skipped.retain(|record| record.offset < *to);
    page
}

async fn effects_in(
    connection: &mut Connection,
    range: &Range,
) -> Result<Vec<Effect>, OrderbookError> {
    let orders = orders_in(connection, range).await?;
    let sales = sales_in(connection, range).await?;
    let refunds = refunds_in(connection, range).await?;
    let adjustments = adjustments_in(connection, range).await?;
    let mut effects: Vec<Effect> = orders.iter().flat_map(effects_of_order).collect();
    effects.extend(sales.iter().flat_map(effects_of_sale));
    effects.extend(refunds.iter().map(effects_of_refund));
    effects.extend(adjustments.iter().map(effects_of_adjustment));
    Ok(effects)
}

async fn orders_in(
    connection: &mut Connection,
    range: &Range,
) -> Result<Vec<Order>, OrderbookError> {
    let by = |offset| select(ORDER_COLUMNS, "orders", offset);
    let sql = format!(
        "{} UNION ALL {}",
        by("reserved_offset"),
        by("closed_offset")
    );
    all(fetch::<RawOrder>(connection, &sql, range).await?)
}

async fn sales_in(connection: &mut Connection, range: &Range) -> Result<Vec<Sale>, OrderbookError> {
    let by = |offset| select(SALE_COLUMNS, "vouchers", offset);
    let sql = format!(
        "{} UNION ALL {}",
        by("scheduled_offset"),
        by("closed_offset")
    );
    all(fetch::<RawSale>(connection, &sql, range).await?)
}

async fn refunds_in(
    connection: &mut Connection,
    range: &Range,
) -> Result<Vec<Refund>, OrderbookError> {
    let columns = r#"payment_id, order_id, amount_cents, currency, reason, "offset""#;
    let sql = select(columns, "refunds", r#""offset""#);
    all(fetch::<RawRefund>(connection, &sql, range).await?)
}

async fn adjustments_in(
    connection: &mut Connection,
    range: &Range,
) -> Result<Vec<AdjustmentRow>, OrderbookError> {
    let columns = r#"event_id, voucher_id, delta, accepted, "offset""#;
    let sql = select(columns, "stock_adjustments", r#""offset""#);
    all(fetch::<RawAdjustment>(connection, &sql, range).await?)
}

/// The rows of a range by one of their offsets, over the index on (partition, that offset).
fn select(columns: &str, table: &str, offset: &str) -> String {
    format!(
        "(SELECT {columns} FROM {table}
           WHERE partition = $1 AND {offset} >= $2 AND {offset} < $3
             AND ($4::bigint IS NULL OR voucher_id = $4)
           ORDER BY {offset} LIMIT $5)"
    )
}

async fn fetch<R>(
    connection: &mut Connection,
    sql: &str,
    range: &Range,
) -> Result<Vec<R>, sqlx::Error>
where
    R: for<'r> sqlx::FromRow<'r, sqlx::postgres::PgRow> + Send + Unpin,
{
    sqlx::query_as(sql)
        .bind(range.partition)
        .bind(range.from)
        .bind(range.to)
        .bind(range.voucher)
        .bind(range.limit)
        .fetch_all(connection)
        .await
}
