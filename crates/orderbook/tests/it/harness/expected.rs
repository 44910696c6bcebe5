//! The expectation: the domain's fold in memory, rendered as the tables are.

use std::collections::HashMap;
use std::fmt::Display;

use seckill_domain::{
    AdjustmentRow, Decision, Effect, Event, EventBody, Offset, Order, PaymentFate, Refund,
    RejectReason, Sale, SaleState, VoucherId, effects_of_adjustment, effects_of_order,
    effects_of_refund, effects_of_sale,
};
use sqlx::PgPool;

use super::PARTITION;

/// A log folded in memory, never through a database.
#[derive(Default)]
pub struct Folded {
    pub states: HashMap<VoucherId, SaleState>,
    pub decisions: Vec<(Offset, Decision)>,
    pub adjustments: Vec<(AdjustmentRow, String)>,
    pub reloads: Vec<String>,
}

pub fn fold(log: &[(Offset, Event)]) -> Folded {
    let mut folded = Folded::default();
    for (offset, event) in log {
        let state = folded.states.entry(event.voucher_id).or_default();
        let Some(decision) = state.fold(*offset, event) else {
            continue;
        };
        folded.note(*offset, event, &decision);
        folded.decisions.push((*offset, decision));
    }
    folded
}

impl Folded {
    fn note(&mut self, offset: Offset, event: &Event, decision: &Decision) {
        match (decision, &event.body) {
            (Decision::StockAdjusted { delta, accepted }, EventBody::StockAdjusted(e)) => {
                let row = AdjustmentRow {
                    event_id: event.event_id,
                    voucher_id: event.voucher_id,
                    delta: *delta,
                    accepted: *accepted,
                    offset,
                };
                self.adjustments.push((row, e.reason.to_string()));
            }
            (
                Decision::SaleReloaded {
                    nonce,
                    epoch,
                    accepted,
                },
                _,
            ) => {
                let (voucher, epoch, offset) = (event.voucher_id, epoch.get(), offset.get());
                self.reloads
                    .push(format!("{voucher}|{nonce}|{epoch}|{accepted}|{offset}"));
            }
            _ => {}
        }
    }

    /// All effects in the order of the log.
    pub fn effects(&self) -> Vec<Effect> {
        let states = || self.states.values();
        let mut effects: Vec<Effect> = states()
            .flat_map(|s| s.orders.values().flat_map(effects_of_order))
            .collect();
        effects.extend(states().flat_map(|s| s.sale.iter().flat_map(effects_of_sale)));
        effects.extend(states().flat_map(|s| s.refunds.iter().map(effects_of_refund)));
        effects.extend(
            self.adjustments
                .iter()
                .map(|(a, _)| effects_of_adjustment(a)),
        );
        effects.sort_by_key(|e| e.offset);
        effects
    }

    /// As [`rows`] renders the tables.
    pub fn rows(&self) -> Vec<String> {
        let states = || self.states.values();
        let mut rows: Vec<String> = states()
            .flat_map(|s| s.orders.values().map(order_row))
            .collect();
        rows.extend(states().filter_map(|s| s.sale.as_ref().map(|sale| sale_row(s, sale))));
        rows.extend(states().flat_map(|s| s.refunds.iter().map(refund_row)));
        rows.extend(self.adjustments.iter().map(|(a, reason)| {
            let (id, voucher, offset) = (a.event_id, a.voucher_id, a.offset.get());
            let (delta, accepted) = (a.delta, a.accepted);
            format!("adjustment|{id}|{voucher}|{delta}|{accepted}|{reason}|{offset}|{PARTITION}")
        }));
        rows.extend(self.reloads.iter().map(|r| format!("reload|{r}")));
        rows.extend(self.states.iter().flat_map(|(voucher, s)| {
            s.payments.iter().map(move |(id, fate)| {
                let honoured = *fate == PaymentFate::Honoured;
                format!("payment|{voucher}|{id}|{honoured}")
            })
        }));
        rows.sort();
        rows
    }
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| v.to_string())
}

fn order_row(o: &Order) -> String {
    [
        "order".to_owned(),
        o.order_id.to_string(),
        o.order_id.voucher_id().to_string(),
        o.user_id.to_string(),
        o.quantity.to_string(),
        o.amount.cents().to_string(),
        o.amount.currency().to_string(),
        o.status.as_str().to_owned(),
        or_dash(o.rejected.map(RejectReason::as_str)),
        o.reserved_at.as_micros().to_string(),
        o.pay_by.as_micros().to_string(),
        or_dash(o.key_hash),
        o.reserved_offset.get().to_string(),
        or_dash(o.closed.map(|(at, _)| at.as_micros())),
        or_dash(o.closed.map(|(_, offset)| offset.get())),
        or_dash(o.payment_id.as_ref()),
        o.version().to_string(),
        PARTITION.to_string(),
    ]
    .join("|")
}

fn sale_row(state: &SaleState, s: &Sale) -> String {
    // Redis must have had a sale that sold something or began a new epoch.
    let loaded = s.epoch.get() > 1 || state.orders.values().any(|o| o.rejected.is_none());
    [
        "sale".to_owned(),
        s.voucher_id.to_string(),
        s.terms.title.to_string(),
        s.terms.price.cents().to_string(),
        s.terms.price.currency().to_string(),
        s.terms.stock.to_string(),
        s.adjusted.to_string(),
        s.available.to_string(),
        s.unpaid.to_string(),
        s.paid.to_string(),
        s.terms.max_quantity.to_string(),
        s.terms.opens_at.as_micros().to_string(),
        s.terms.closes_at.as_micros().to_string(),
        s.terms.hold_seconds.to_string(),
        s.terms.requires_sale_token.to_string(),
        s.epoch.get().to_string(),
        s.scheduled_offset.get().to_string(),
        or_dash(s.closed.map(|(at, _)| at.as_micros())),
        or_dash(s.closed.map(|(_, offset)| offset.get())),
        loaded.to_string(),
        PARTITION.to_string(),
    ]
    .join("|")
}

fn refund_row(r: &Refund) -> String {
    let (payment, order, voucher) = (&r.payment_id, r.order_id, r.order_id.voucher_id());
    let (cents, currency) = (r.amount.cents(), r.amount.currency());
    let (reason, offset) = (r.reason.as_str(), r.offset.get());
    format!("refund|{payment}|{voucher}|{order}|{cents}|{currency}|{reason}|{offset}|{PARTITION}")
}

/// Every row of the view as one line, sorted, read without the order book's own code.
pub async fn rows(pool: &PgPool) -> Vec<String> {
    let us = |column: &str| format!("(extract(epoch FROM {column}) * 1000000)::bigint");
    let or_dash = |value: &str| format!("coalesce(({value})::text, '-')");
    let line = |values: &[String]| values.join(" || '|' || ");
    let text = |names: &str| -> String {
        let columns: Vec<_> = names.split(' ').map(|n| format!("{n}::text")).collect();
        line(&columns)
    };
    let orders = line(&[
        "'order'".to_owned(),
        text("order_id voucher_id user_id quantity amount_cents currency status"),
        or_dash("reject_reason"),
        us("reserved_at"),
        us("pay_by"),
        or_dash("encode(key_hash, 'hex')"),
        "reserved_offset".to_owned(),
        or_dash(&us("closed_at")),
        or_dash("closed_offset"),
        or_dash("payment_id"),
        text("version partition"),
    ]);
    let sales = line(&[
        "'sale'".to_owned(),
        text("voucher_id title price_cents currency initial_stock adjusted stock_left"),
        text("unpaid_units paid_units max_quantity"),
        us("opens_at"),
        us("closes_at"),
        text("hold_seconds requires_sale_token epoch scheduled_offset"),
        or_dash(&us("closed_at")),
        or_dash("closed_offset"),
        text("loaded partition"),
    ]);
    let refunds = text(
        "'refund' payment_id voucher_id order_id amount_cents currency reason \"offset\" partition",
    );
    let adjustments =
        text("'adjustment' event_id voucher_id delta accepted reason \"offset\" partition");
    let reloads = text("'reload' voucher_id nonce epoch accepted \"offset\"");
    let honoured = text("'payment' voucher_id payment_id true");
    let returned = text("'payment' voucher_id payment_id false");
    let sql = format!(
        "SELECT {orders} FROM orders UNION ALL SELECT {sales} FROM vouchers
         UNION ALL SELECT {refunds} FROM refunds
         UNION ALL SELECT {adjustments} FROM stock_adjustments
         UNION ALL SELECT {reloads} FROM sale_reloads
         UNION ALL SELECT {honoured} FROM orders WHERE payment_id IS NOT NULL
         UNION ALL SELECT {returned} FROM refunds"
    );
    let mut rows: Vec<String> = sqlx::query_scalar(&sql).fetch_all(pool).await.unwrap();
    rows.sort();
    rows
}
