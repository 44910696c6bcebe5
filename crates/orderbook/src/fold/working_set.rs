//! The part of the state that a batch of events can touch, read from the tables.
//!
//! Where rows are found by more than one column, the keys are an array, and a subquery finds the rows of each
//! key. Its `OFFSET 0` keeps the planner from turning that round: it would look through all keys for each row of
//! a table that it believes to be small.

use std::collections::HashMap;

use seckill_domain::{
    Event, EventId, Lookup, Offset, Order, PaymentFate, PaymentId, Sale, SaleState, VoucherId,
};
use uuid::Uuid;

use crate::database::connections::Connection;
use crate::database::error::OrderbookError;
use crate::database::rows::{
    ORDER_COLUMNS, RawOrder, RawSale, SALE_COLUMNS, all, order_ids_of, voucher_id,
};

pub(crate) type WorkingSet = HashMap<VoucherId, SaleState>;

/// What events name, column by column.
#[derive(Default)]
struct Named<'a> {
    vouchers: Vec<i64>,
    orders: Vec<Uuid>,
    buyers: (Vec<i64>, Vec<i64>),
    payments: (Vec<i64>, Vec<&'a str>),
    adjustments: Vec<Uuid>,
    nonces: (Vec<i64>, Vec<Uuid>),
}

impl<'a> Named<'a> {
    fn by(events: &'a [(Offset, Event)]) -> Self {
        let mut named = Self::default();
        for (_, event) in events {
            named.add(event);
        }
        named.vouchers.sort_unstable();
        named.vouchers.dedup();
        named
    }

    fn add(&mut self, event: &'a Event) {
        let voucher = event.voucher_id.get();
        self.vouchers.push(voucher);
        self.orders
            .extend(event.body.order_id().map(seckill_domain::OrderId::as_uuid));
        match event.lookup() {
            Lookup::Buyer(user_id) => {
                self.buyers.0.push(voucher);
                self.buyers.1.push(user_id.get());
            }
            Lookup::Payment(payment_id) => {
                self.payments.0.push(voucher);
                self.payments.1.push(payment_id.as_str());
            }
            Lookup::Adjustment(event_id) => self.adjustments.push(event_id.as_uuid()),
            Lookup::Reload(nonce) => {
                self.nonces.0.push(voucher);
                self.nonces.1.push(nonce);
            }
            Lookup::None => {}
        }
    }
}

/// Everything that deciding `events` asks for, and no more.
pub(crate) async fn load(
    connection: &mut Connection,
    events: &[(Offset, Event)],
) -> Result<WorkingSet, OrderbookError> {
    let named = Named::by(events);
    let mut set = WorkingSet::new();
    if !named.vouchers.is_empty() {
        load_sales(connection, &named, &mut set).await?;
    }
    if !named.orders.is_empty() {
        load_orders(connection, &named, &mut set).await?;
    }
    if !named.payments.0.is_empty() {
        load_payments(connection, &named, &mut set).await?;
    }
    if !named.adjustments.is_empty() {
        load_adjustments(connection, &named, &mut set).await?;
    }
    if !named.nonces.0.is_empty() {
        load_reloads(connection, &named, &mut set).await?;
    }
    Ok(set)
}

/// Everything of these sales that deciding any event may ask for.
pub(crate) async fn load_whole(
    connection: &mut Connection,
    vouchers: &[VoucherId],
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    if vouchers.is_empty() {
        return Ok(());
    }
    let ids: Vec<i64> = vouchers.iter().map(|v| v.get()).collect();
    let named = Named {
        vouchers: ids.clone(),
        ..Named::default()
    };
    load_sales(connection, &named, set).await?;
    let (first, last): (Vec<Uuid>, Vec<Uuid>) = vouchers.iter().map(|v| order_ids_of(*v)).unzip();
    let sql = format!(
        "SELECT o.* FROM unnest($1::uuid[], $2::uuid[]) AS of_sale (first, last),
        LATERAL (SELECT {ORDER_COLUMNS} FROM orders
                  WHERE order_id BETWEEN first AND last OFFSET 0) AS o"
    );
    let rows: Vec<RawOrder> = sqlx::query_as(&sql)
        .bind(first)
        .bind(last)
        .fetch_all(&mut *connection)
        .await?;
    for order in all::<_, Order>(rows)? {
        let state = set.entry(order.order_id.voucher_id()).or_default();
        if order.status.is_live() {
            state.live.insert(order.user_id, order.order_id);
        }
        let paid = order.payment_id.clone();
        let honoured = paid.map(|id| (id, PaymentFate::Honoured));
        state.payments.extend(honoured);
        state.orders.insert(order.order_id, order);
    }
    let refunds: Vec<(i64, String)> =
        sqlx::query_as("SELECT voucher_id, payment_id FROM refunds WHERE voucher_id = ANY($1)")
            .bind(&ids)
            .fetch_all(&mut *connection)
            .await?;
    for (voucher, payment_id) in refunds {
        let payment_id = payment(payment_id)?;
        let state = set.entry(voucher_id(voucher, "refunds")?).or_default();
        state.payments.insert(payment_id, PaymentFate::RefundDue);
    }
    let rows: Vec<(i64, Uuid, bool)> = sqlx::query_as(
        "SELECT voucher_id, event_id, accepted FROM stock_adjustments WHERE voucher_id = ANY($1)",
    )
    .bind(&ids)
    .fetch_all(&mut *connection)
    .await?;
    add_adjustments(rows, set)?;
    let rows: Vec<(i64, Uuid, bool)> = sqlx::query_as(
        "SELECT voucher_id, nonce, accepted FROM sale_reloads WHERE voucher_id = ANY($1)",
    )
    .bind(&ids)
    .fetch_all(connection)
    .await?;
    add_reloads(rows, set)?;
    // Also those that have no row: they are known to have none.
    for voucher in vouchers {
        set.entry(*voucher).or_default();
    }
    Ok(())
}

fn payment(id: String) -> Result<PaymentId, OrderbookError> {
    PaymentId::new(id).map_err(|_| OrderbookError::Row {
        table: "orders or refunds",
        column: "payment_id",
    })
}

fn add_reloads(rows: Vec<(i64, Uuid, bool)>, set: &mut WorkingSet) -> Result<(), OrderbookError> {
    for (voucher, nonce, accepted) in rows {
        let state = set.entry(voucher_id(voucher, "sale_reloads")?).or_default();
        state.reloads.insert(nonce, accepted);
    }
    Ok(())
}

fn add_adjustments(
    rows: Vec<(i64, Uuid, bool)>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    for (voucher, event_id, accepted) in rows {
        let voucher = voucher_id(voucher, "stock_adjustments")?;
        let state = set.entry(voucher).or_default();
        state
            .adjustments
            .insert(EventId::from_uuid(event_id), accepted);
    }
    Ok(())
}

async fn load_sales(
    connection: &mut Connection,
    named: &Named<'_>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    let sql = format!("SELECT {SALE_COLUMNS} FROM vouchers WHERE voucher_id = ANY($1)");
    let rows: Vec<RawSale> = sqlx::query_as(&sql)
        .bind(&named.vouchers)
        .fetch_all(connection)
        .await?;
    for sale in all::<_, Sale>(rows)? {
        let state = set.entry(sale.voucher_id).or_default();
        state.sale = Some(sale);
    }
    Ok(())
}

/// The orders that are named, and the live orders of those who reserve.
async fn load_orders(
    connection: &mut Connection,
    named: &Named<'_>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    let sql = format!(
        "SELECT {ORDER_COLUMNS} FROM orders WHERE order_id = ANY($1)
         UNION ALL
         SELECT o.* FROM unnest($2::bigint[], $3::bigint[]) AS buyer (of_voucher, of_user),
         LATERAL (SELECT {ORDER_COLUMNS} FROM orders
                   WHERE voucher_id = of_voucher AND user_id = of_user
                     AND status IN ('unpaid', 'paid') OFFSET 0) AS o"
    );
    let rows: Vec<RawOrder> = sqlx::query_as(&sql)
        .bind(&named.orders)
        .bind(&named.buyers.0)
        .bind(&named.buyers.1)
        .fetch_all(connection)
        .await?;
    for order in all::<_, Order>(rows)? {
        let state = set.entry(order.order_id.voucher_id()).or_default();
        if order.status.is_live() {
            state.live.insert(order.user_id, order.order_id);
        }
        state.orders.insert(order.order_id, order);
    }
    Ok(())
}

async fn load_payments(
    connection: &mut Connection,
    named: &Named<'_>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    let rows: Vec<(i64, String, bool)> = sqlx::query_as(
        "SELECT n.*, honoured FROM unnest($1::bigint[], $2::text[]) AS n (voucher_id, payment_id),
         LATERAL (SELECT true AS honoured FROM orders AS o
                   WHERE o.voucher_id = n.voucher_id AND o.payment_id = n.payment_id
                  UNION ALL
                  SELECT false FROM refunds AS r
                   WHERE r.voucher_id = n.voucher_id AND r.payment_id = n.payment_id
                  OFFSET 0) AS fate",
    )
    .bind(&named.payments.0)
    .bind(&named.payments.1)
    .fetch_all(connection)
    .await?;
    for (voucher, payment_id, honoured) in rows {
        let payment_id = payment(payment_id)?;
        let fate = if honoured {
            PaymentFate::Honoured
        } else {
            PaymentFate::RefundDue
        };
        let state = set.entry(voucher_id(voucher, "orders")?).or_default();
        state.payments.insert(payment_id, fate);
    }
    Ok(())
}

async fn load_adjustments(
    connection: &mut Connection,
    named: &Named<'_>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    let rows: Vec<(i64, Uuid, bool)> = sqlx::query_as(
        "SELECT voucher_id, event_id, accepted FROM stock_adjustments WHERE event_id = ANY($1)",
    )
    .bind(&named.adjustments)
    .fetch_all(connection)
    .await?;
    add_adjustments(rows, set)
}

async fn load_reloads(
    connection: &mut Connection,
    named: &Named<'_>,
    set: &mut WorkingSet,
) -> Result<(), OrderbookError> {
    let rows: Vec<(i64, Uuid, bool)> = sqlx::query_as(
        "SELECT n.*, accepted FROM unnest($1::bigint[], $2::uuid[]) AS n (voucher_id, nonce),
         LATERAL (SELECT accepted FROM sale_reloads AS r
                   WHERE r.voucher_id = n.voucher_id AND r.nonce = n.nonce OFFSET 0) AS known",
    )
    .bind(&named.nonces.0)
    .bind(&named.nonces.1)
    .fetch_all(connection)
    .await?;
    add_reloads(rows, set)
}
