//! Writes a folded batch into the tables, one statement for each table.

use std::collections::HashSet;

use seckill_domain::{Order, OrderId, Refund, Sale, VoucherId};

use crate::database::connections::Connection;
use crate::database::sql_time::SqlTime;
use crate::fold::apply::{Adjustment, Changes, Reload};
use crate::fold::working_set::WorkingSet;

/// Writes what the batch changed.
pub(crate) async fn all(
    connection: &mut Connection,
    partition: i32,
    states: &WorkingSet,
    changes: &Changes,
) -> Result<(), sqlx::Error> {
    let order = |id: &OrderId| states.get(&id.voucher_id())?.orders.get(id);
    // Orders that were new in this batch are already written with their end.
    let began: HashSet<&OrderId> = changes.new_orders.iter().collect();
    let older = changes
        .closed_orders
        .iter()
        .filter(|id| !began.contains(id));
    let closed: Vec<&Order> = older.filter_map(order).collect();
    let new: Vec<&Order> = changes.new_orders.iter().filter_map(order).collect();
    let sale = |(id, was_in_redis): (&VoucherId, &bool)| {
        Some((states.get(id)?.sale.as_ref()?, *was_in_redis))
    };
    let sales: Vec<(&Sale, bool)> = changes.sales.iter().filter_map(sale).collect();
    // Only this batch's: the working set is loaded without refunds.
    let refunds: Vec<&Refund> = states.values().flat_map(|s| &s.refunds).collect();

    // Closed orders first: a buyer may have only one live order in the table at any moment.
    if !closed.is_empty() {
        close_orders(connection, partition, &closed).await?;
    }
    if !new.is_empty() {
        insert_orders(connection, partition, &new).await?;
    }
    if !sales.is_empty() {
        upsert_sales(connection, partition, &sales).await?;
    }
    if !refunds.is_empty() {
        insert_refunds(connection, partition, &refunds).await?;
    }
    if !changes.adjustments.is_empty() {
        insert_adjustments(connection, partition, &changes.adjustments).await?;
    }
    if !changes.reloads.is_empty() {
        insert_reloads(connection, &changes.reloads).await?;
    }
    match changes.highest_scheduled {
        Some(highest) => never_give_out(connection, highest).await,
        None => Ok(()),
    }
}

fn column<R, T>(rows: &[R], value: impl Fn(&R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn closed_at(order: &Order) -> Option<SqlTime> {
    order.closed.map(|(at, _)| SqlTime(at))
}

fn closed_offset(order: &Order) -> Option<i64> {
    order.closed.map(|(_, offset)| offset.get())
}

fn payment_id(order: &Order) -> Option<String> {
    Some(order.payment_id.as_ref()?.as_str().to_owned())
}

/// The rows are there, and only their ends are new. An UPDATE would need a join, and so a plan: this finds each
/// row by its key, whatever is known of the table.
async fn close_orders(
    connection: &mut Connection,
    partition: i32,
    orders: &[&Order],
) -> Result<(), sqlx::Error> {
    let update = "ON CONFLICT (order_id) DO UPDATE
        SET status = excluded.status, closed_at = excluded.closed_at,
            closed_offset = excluded.closed_offset, payment_id = excluded.payment_id";
    put_orders(connection, partition, orders, update).await
}

pub(crate) async fn insert_orders(
    connection: &mut Connection,
    partition: i32,
    orders: &[&Order],
) -> Result<(), sqlx::Error> {
    put_orders(connection, partition, orders, "").await
}

async fn put_orders(
    connection: &mut Connection,
    partition: i32,
    orders: &[&Order],
    on_conflict: &str,
) -> Result<(), sqlx::Error> {
    let currencies = column(orders, |o| o.amount.currency());
    let key_hashes = column(orders, |o| o.key_hash);
    let sql = format!(
        "INSERT INTO orders (partition, order_id, voucher_id, user_id, quantity, amount_cents,
                currency, status, reject_reason, reserved_at, pay_by, key_hash, reserved_offset,
                closed_at, closed_offset, payment_id)
         SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[],
                $6::bigint[], $7::text[], $8::text[], $9::text[], $10::timestamptz[],
                $11::timestamptz[], $12::bytea[], $13::bigint[], $14::timestamptz[],
                $15::bigint[], $16::text[]) {on_conflict}"
    );
    sqlx::query(&sql)
        .bind(partition)
        .bind(column(orders, |o| o.order_id.as_uuid()))
        .bind(column(orders, |o| o.order_id.voucher_id().get()))
        .bind(column(orders, |o| o.user_id.get()))
        .bind(column(orders, |o| i64::from(o.quantity)))
        .bind(column(orders, |o| o.amount.cents()))
        .bind(column(&currencies, |c| c.as_str().to_owned()))
        .bind(column(orders, |o| o.status.as_str()))
        .bind(column(orders, |o| {
            o.rejected.map(seckill_domain::RejectReason::as_str)
        }))
        .bind(column(orders, |o| SqlTime(o.reserved_at)))
        .bind(column(orders, |o| SqlTime(o.pay_by)))
        .bind(column(&key_hashes, |k| {
            k.map(|hash| hash.as_bytes().to_vec())
        }))
        .bind(column(orders, |o| o.reserved_offset.get()))
        .bind(column(orders, |o| closed_at(o)))
        .bind(column(orders, |o| closed_offset(o)))
        .bind(column(orders, |o| payment_id(o)))
        .execute(connection)
        .await?;
    Ok(())
}

/// Absolute numbers are correct, because only the owner of the position's lock writes them.
pub(crate) async fn upsert_sales(
    connection: &mut Connection,
    partition: i32,
    sales: &[(&Sale, bool)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO vouchers AS v (partition, voucher_id, title, price_cents, currency,
                initial_stock, adjusted, stock_left, unpaid_units, paid_units, max_quantity,
                opens_at, closes_at, hold_seconds, epoch, scheduled_offset, closed_at,
                closed_offset, requires_sale_token, loaded)
         SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::text[], $6::bigint[],
                $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[],
                $12::timestamptz[], $13::timestamptz[], $14::bigint[], $15::bigint[],
                $16::bigint[], $17::timestamptz[], $18::bigint[], $19::boolean[],
                $20::boolean[])
         ON CONFLICT (voucher_id) DO UPDATE
            SET adjusted = excluded.adjusted, stock_left = excluded.stock_left,
                unpaid_units = excluded.unpaid_units, paid_units = excluded.paid_units,
                epoch = excluded.epoch, closed_at = excluded.closed_at,
                closed_offset = excluded.closed_offset, loaded = v.loaded OR excluded.loaded",
    )
    .bind(partition)
    .bind(column(sales, |(s, _)| s.voucher_id.get()))
    .bind(column(sales, |(s, _)| s.terms.title.as_str()))
    .bind(column(sales, |(s, _)| s.terms.price.cents()))
    .bind(column(sales, |(s, _)| {
        s.terms.price.currency().as_str().to_owned()
    }))
    .bind(column(sales, |(s, _)| s.terms.stock))
    .bind(column(sales, |(s, _)| s.adjusted))
    .bind(column(sales, |(s, _)| s.available))
    .bind(column(sales, |(s, _)| s.unpaid))
    .bind(column(sales, |(s, _)| s.paid))
    .bind(column(sales, |(s, _)| i64::from(s.terms.max_quantity)))
    .bind(column(sales, |(s, _)| SqlTime(s.terms.opens_at)))
    .bind(column(sales, |(s, _)| SqlTime(s.terms.closes_at)))
    .bind(column(sales, |(s, _)| i64::from(s.terms.hold_seconds)))
    .bind(column(sales, |(s, _)| s.epoch.get()))
    .bind(column(sales, |(s, _)| s.scheduled_offset.get()))
    .bind(column(sales, |(s, _)| s.closed.map(|(at, _)| SqlTime(at))))
    .bind(column(sales, |(s, _)| {
        s.closed.map(|(_, offset)| offset.get())
    }))
    .bind(column(sales, |(s, _)| s.terms.requires_sale_token))
    .bind(column(sales, |(_, was_in_redis)| *was_in_redis))
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn insert_refunds(
    connection: &mut Connection,
    partition: i32,
    refunds: &[&Refund],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"INSERT INTO refunds (partition, payment_id, voucher_id, order_id, amount_cents,
                  currency, reason, "offset")
           SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::uuid[], $5::bigint[],
                  $6::text[], $7::text[], $8::bigint[])"#,
    )
    .bind(partition)
    .bind(column(refunds, |r| r.payment_id.as_str().to_owned()))
    .bind(column(refunds, |r| r.order_id.voucher_id().get()))
    .bind(column(refunds, |r| r.order_id.as_uuid()))
    .bind(column(refunds, |r| r.amount.cents()))
    .bind(column(refunds, |r| r.amount.currency().as_str().to_owned()))
    .bind(column(refunds, |r| r.reason.as_str()))
    .bind(column(refunds, |r| r.offset.get()))
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn insert_adjustments(
    connection: &mut Connection,
    partition: i32,
    adjustments: &[Adjustment],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"INSERT INTO stock_adjustments
                  (partition, event_id, voucher_id, delta, accepted, reason, "offset")
           SELECT $1, * FROM unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::boolean[],
                  $6::text[], $7::bigint[])"#,
    )
    .bind(partition)
    .bind(column(adjustments, |a| a.event_id.as_uuid()))
    .bind(column(adjustments, |a| a.voucher_id.get()))
    .bind(column(adjustments, |a| a.delta))
    .bind(column(adjustments, |a| a.accepted))
    .bind(column(adjustments, |a| a.reason.clone()))
    .bind(column(adjustments, |a| a.offset.get()))
    .execute(connection)
    .await?;
    Ok(())
}

pub(crate) async fn insert_reloads(
    connection: &mut Connection,
    reloads: &[Reload],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"INSERT INTO sale_reloads (voucher_id, nonce, epoch, accepted, "offset")
           SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::boolean[],
                  $5::bigint[])"#,
    )
    .bind(column(reloads, |r| r.voucher_id.get()))
    .bind(column(reloads, |r| r.nonce))
    .bind(column(reloads, |r| r.epoch.get()))
    .bind(column(reloads, |r| r.accepted))
    .bind(column(reloads, |r| r.offset.get()))
    .execute(connection)
    .await?;
    Ok(())
}

/// A rebuilt database must not give the log's voucher ids out again. The row is locked only while
/// it is behind, and last, so that new sales wait as short as can be.
async fn never_give_out(
    connection: &mut Connection,
    voucher_id: VoucherId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE voucher_ids SET last_id = $1 WHERE last_id < $1")
        .bind(voucher_id.get())
        .execute(connection)
        .await?;
    Ok(())
}
