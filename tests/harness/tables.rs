//! A sale's rows in the tables, and the rows that follow from the fold of the log: every row and every column.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use seckill_domain::{
    Decision, Event, EventBody, Offset, Order, Refund, Sale, SaleState, Timestamp, VoucherId,
};
use serde_json::{Map, Value, json};
use sqlx::PgPool;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The columns with times, which are compared as microseconds.
const TIMES: [&str; 5] = [
    "reserved_at",
    "pay_by",
    "closed_at",
    "opens_at",
    "closes_at",
];
/// Columns about Redis that do not follow from the log.
const NOT_FOLDED: [&str; 2] = ["loaded", "retired"];
/// The number of differences in the message of a failed comparison.
const TOLD: usize = 3;

/// A sale's rows: by table and primary key, the columns by name.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tables(BTreeMap<(&'static str, String), Map<String, Value>>);

impl Tables {
    fn insert(&mut self, table: &'static str, key: &str, row: Value) -> Result<()> {
        let Value::Object(row) = row else {
            anyhow::bail!("a row of {table} is no object: {row}");
        };
        let key = (table, key.to_owned());
        ensure!(!self.0.contains_key(&key), "{key:?} is there twice");
        self.0.insert(key, row);
        Ok(())
    }

    /// Reads the rows with all columns of the tables.
    pub(crate) async fn read(pool: &PgPool, voucher: VoucherId) -> Result<Self> {
        let mut tables = Self::default();
        for (table, key) in [
            ("vouchers", "voucher_id"),
            ("orders", "order_id"),
            ("refunds", "payment_id"),
            ("stock_adjustments", "event_id"),
            ("sale_reloads", "nonce"),
        ] {
            let sql = format!(
                "SELECT t.{key}::text, to_jsonb(t)::text FROM {table} AS t WHERE voucher_id = $1"
            );
            let rows: Vec<(String, String)> = sqlx::query_as(&sql)
                .bind(voucher.get())
                .fetch_all(pool)
                .await?;
            for (key, row) in rows {
                let mut row: Map<String, Value> = serde_json::from_str(&row)?;
                row.retain(|column, _| !NOT_FOLDED.contains(&column.as_str()));
                for column in TIMES {
                    if let Some(time) = row.get_mut(column).filter(|time| time.is_string()) {
                        let text = time.as_str().context("a text")?;
                        let nanos = OffsetDateTime::parse(text, &Rfc3339)?.unix_timestamp_nanos();
                        *time = json!(i64::try_from(nanos / 1_000)?);
                    }
                }
                tables.insert(table, &key, Value::Object(row))?;
            }
        }
        Ok(tables)
    }

    /// Folds a sale's events, which are in `partition`.
    pub(crate) fn of_log(log: &[(Offset, Event)], partition: i32) -> Result<Self> {
        let (mut state, mut tables) = (SaleState::default(), Self::default());
        for (offset, event) in log {
            match (state.fold(*offset, event), &event.body) {
                (
                    Some(Decision::StockAdjusted { delta, accepted }),
                    EventBody::StockAdjusted(e),
                ) => {
                    let row = json!({
                        "event_id": event.event_id.to_string(), "delta": delta, "accepted": accepted,
                        "voucher_id": event.voucher_id.get(), "reason": e.reason.as_str(),
                        "partition": partition, "offset": offset.get(),
                    });
                    tables.insert("stock_adjustments", &event.event_id.to_string(), row)?;
                }
                (
                    Some(Decision::SaleReloaded {
                        nonce,
                        epoch,
                        accepted,
                    }),
                    _,
                ) => {
                    let row = json!({
                        "nonce": nonce.to_string(), "epoch": epoch.get(), "accepted": accepted,
                        "voucher_id": event.voucher_id.get(), "offset": offset.get(),
                    });
                    tables.insert("sale_reloads", &nonce.to_string(), row)?;
                }
                _ => {}
            }
        }
        if let Some(sale) = &state.sale {
            tables.insert(
                "vouchers",
                &sale.voucher_id.to_string(),
                sale_row(sale, partition),
            )?;
        }
        for order in state.orders.values() {
            tables.insert(
                "orders",
                &order.order_id.to_string(),
                order_row(order, partition),
            )?;
        }
        for refund in &state.refunds {
            let key = refund.payment_id.as_str();
            tables.insert("refunds", key, refund_row(refund, partition))?;
        }
        Ok(tables)
    }

    /// Fails with what differs, if anything does.
    pub(crate) fn expect(&self, expected: &Self) -> Result<()> {
        let keys = self.0.keys().chain(expected.0.keys());
        let mut differing: Vec<_> = keys
            .filter(|key| self.0.get(*key) != expected.0.get(*key))
            .collect();
        differing.sort_unstable();
        differing.dedup();
        let told: Vec<String> = differing
            .iter()
            .take(TOLD)
            .map(|key| {
                let (is, folded) = (self.0.get(*key), expected.0.get(*key));
                format!("{key:?} is {is:?}, by the log {folded:?}")
            })
            .collect();
        let count = differing.len();
        ensure!(
            count == 0,
            "{count} rows are not the fold of the log: {told:#?}"
        );
        Ok(())
    }
}

fn time(at: Option<(Timestamp, Offset)>) -> (Option<i64>, Option<i64>) {
    at.map(|(at, offset)| (at.as_micros(), offset.get()))
        .unzip()
}

fn sale_row(sale: &Sale, partition: i32) -> Value {
    let (closed_at, closed_offset) = time(sale.closed);
    let terms = &sale.terms;
    json!({
        "voucher_id": sale.voucher_id.get(), "title": terms.title.as_str(),
        "price_cents": terms.price.cents(), "currency": terms.price.currency().as_str(),
        "initial_stock": terms.stock, "adjusted": sale.adjusted, "stock_left": sale.available,
        "unpaid_units": sale.unpaid, "paid_units": sale.paid,
        "on_shelf": sale.available > 0 || sale.unpaid > 0 || sale.paid == 0,
        "max_quantity": terms.max_quantity, "hold_seconds": terms.hold_seconds,
        "requires_sale_token": terms.requires_sale_token, "epoch": sale.epoch.get(),
        "opens_at": terms.opens_at.as_micros(), "closes_at": terms.closes_at.as_micros(),
        "scheduled_offset": sale.scheduled_offset.get(), "partition": partition,
        "closed_at": closed_at, "closed_offset": closed_offset,
    })
}

fn order_row(order: &Order, partition: i32) -> Value {
    let (closed_at, closed_offset) = time(order.closed);
    let key_hash = order
        .key_hash
        .map(|hash| format!("\\x{}", hex::encode(hash.as_bytes())));
    json!({
        "order_id": order.order_id.to_string(), "voucher_id": order.order_id.voucher_id().get(),
        "user_id": order.user_id.get(), "quantity": order.quantity,
        "amount_cents": order.amount.cents(), "currency": order.amount.currency().as_str(),
        "status": order.status.as_str(), "version": order.version(),
        "reject_reason": order.rejected.map(seckill_domain::RejectReason::as_str),
        "reserved_at": order.reserved_at.as_micros(), "pay_by": order.pay_by.as_micros(),
        "reserved_offset": order.reserved_offset.get(), "partition": partition,
        "closed_at": closed_at, "closed_offset": closed_offset,
        "payment_id": order.payment_id.as_ref().map(seckill_domain::PaymentId::as_str),
        "key_hash": key_hash,
    })
}

fn refund_row(refund: &Refund, partition: i32) -> Value {
    json!({
        "payment_id": refund.payment_id.as_str(), "order_id": refund.order_id.to_string(),
        "voucher_id": refund.order_id.voucher_id().get(),
        "amount_cents": refund.amount.cents(), "currency": refund.amount.currency().as_str(),
        "reason": refund.reason.as_str(), "partition": partition, "offset": refund.offset.get(),
    })
}
