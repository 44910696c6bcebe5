//! The results of a sale, from PostgreSQL, and from the ingress' ledger for the numbers on which both stores have to
//! agree.

use anyhow::Context;
use seckill_domain::{Money, Timestamp, VoucherId};
use seckill_orderbook::{OrderFigures, RefundFigures, SaleReport};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::admin::AdminApi;
use crate::commands::db::connect;
use crate::commands::sale::{Ledger, known, parse};
use crate::failure::Failure;
use crate::output::{Report, fields, moment};
use crate::settings::Settings;

/// Printed below the numbers. These values are not known for single sales, because no metric has a label for the sale.
const OF_ALL_SALES: &str = "Refusals and latency are known of all sales together, by Prometheus, for the time of this one:";

pub(crate) async fn report(
    api: &AdminApi,
    voucher: VoucherId,
    settings: &Settings,
) -> Result<Report, Failure> {
    let sale = connect(settings)?.sale_report(voucher).await;
    let sale = sale.context("cannot read the sale's orders")?;
    let sale = sale.ok_or_else(|| {
        Failure::NotFound(format!(
            "PostgreSQL has no sale {voucher}; one that was put up a moment ago may still be on its way"
        ))
    })?;
    let ledger = api.get(&format!("/vouchers/{voucher}/ledger")).await?;
    let ledger: Ledger = parse(&ledger)?;
    let queries = Queries::of(&sale, now()?);
    Ok(Report {
        json: json(voucher, &sale, &ledger, queries.as_ref()),
        text: text(&sale, &ledger, queries.as_ref()),
    })
}

fn now() -> anyhow::Result<Timestamp> {
    let micros = i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000)?;
    Timestamp::new(micros).context("this machine's clock")
}

/// Queries for Prometheus for the time in which the sale took orders.
struct Queries {
    answers: String,
    latency: String,
}

impl Queries {
    /// None before the sale has opened.
    fn of(sale: &SaleReport, now: Timestamp) -> Option<Self> {
        let end = sale.closed_at.unwrap_or(sale.closes_at).min(now);
        let us = end.as_micros() - sale.opens_at.as_micros();
        if us <= 0 {
            return None;
        }
        // Round to whole seconds on both sides, and to at least one second.
        let (end_s, seconds) = (
            end.as_micros().div_euclid(1_000_000) + 1,
            us / 1_000_000 + 2,
        );
        let range = format!("[{seconds}s] @ {end_s}");
        Some(Self {
            answers: format!("sum by (answer) (increase(seckill_orders_total{range}))"),
            latency: format!(
                "histogram_quantile(0.99, sum by (le) (increase(seckill_http_request_seconds_bucket{{route=\"/api/v1/vouchers/{{voucher_id}}/orders\"}}{range})))"
            ),
        })
    }
}

fn json(
    voucher: VoucherId,
    sale: &SaleReport,
    ledger: &Ledger,
    queries: Option<&Queries>,
) -> Value {
    let orders = &sale.orders;
    let refunds = sale.refunds.iter().map(|refund| {
        json!({
            "reason": refund.reason, "payments": refund.payments,
            "amount_cents": refund.amount_cents, "currency": refund.currency,
        })
    });
    json!({
        "voucher_id": voucher.get(),
        "opens_at": moment(sale.opens_at),
        "closes_at": moment(sale.closes_at),
        "closed_at": sale.closed_at.map(moment),
        "units": sale.units,
        "paid_units": sale.paid_units,
        "sell_through_percent": sale.sell_through_percent(),
        "sold_out_at": sale.sold_out_at.map(moment),
        "sold_out_after_ms": sale.sold_out_after_ms(),
        "first_order_at": orders.first_at.map(moment),
        "last_order_at": orders.last_at.map(moment),
        "admitted": orders.admitted(),
        "paid": orders.paid,
        "unpaid": orders.unpaid,
        "overdue": orders.overdue,
        "expired": orders.expired,
        "cancelled": orders.cancelled,
        "rejected": orders.rejected,
        "expiry_late_ms": { "median": orders.expiry_late_ms_median, "max": orders.expiry_late_ms_max },
        "refunds": refunds.collect::<Vec<_>>(),
        "drift": ledger.drift,
        "consistent": ledger.consistent,
        "of_all_sales": queries.map(|ask| json!({ "answers": ask.answers, "latency": ask.latency })),
    })
}

fn text(sale: &SaleReport, ledger: &Ledger, queries: Option<&Queries>) -> String {
    let orders = &sale.orders;
    let at = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), moment);
    let ended = sale.closed_at.unwrap_or(sale.closes_at);
    let figures = fields(&[
        (
            "open",
            format!("{} to {}", moment(sale.opens_at), moment(ended)),
        ),
        (
            "units",
            format!(
                "{}, of which {} paid{}",
                sale.units,
                sale.paid_units,
                percent(sale)
            ),
        ),
        ("sold out", sold_out(sale)),
        ("first order", at(orders.first_at)),
        ("last order", at(orders.last_at)),
        ("admitted", format!("{} orders", orders.admitted())),
        ("  paid", orders.paid.to_string()),
        (
            "  unpaid",
            format!(
                "{}, of which {} past their time to pay",
                orders.unpaid, orders.overdue
            ),
        ),
        (
            "  expired",
            format!("{}{}", orders.expired, lateness(orders)),
        ),
        ("  cancelled", orders.cancelled.to_string()),
        ("rejected", orders.rejected.to_string()),
        ("refunds", refunds(&sale.refunds)),
        ("drift", known(ledger.drift)),
        ("consistent", ledger.consistent.to_string()),
    ]);
    queries.map_or(figures.clone(), |Queries { answers, latency }| {
        format!("{figures}\n\n{OF_ALL_SALES}\n{answers}\n{latency}")
    })
}

fn percent(sale: &SaleReport) -> String {
    sale.sell_through_percent()
        .map_or_else(String::new, |percent| format!(" ({percent} %)"))
}

fn sold_out(sale: &SaleReport) -> String {
    let after = sale.sold_out_at.zip(sale.sold_out_after_ms());
    after.map_or_else(
        || "never".to_owned(),
        |(at, ms)| format!("{}, {} after it opened", moment(at), seconds(ms)),
    )
}

fn lateness(orders: &OrderFigures) -> String {
    let late = orders.expiry_late_ms_median.zip(orders.expiry_late_ms_max);
    late.map_or_else(String::new, |(median, max)| {
        let (median, max) = (seconds(median), seconds(max));
        format!(", {median} after their time to pay, the latest {max}")
    })
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03} s", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

fn refunds(refunds: &[RefundFigures]) -> String {
    if refunds.is_empty() {
        return "none".to_owned();
    }
    let each = refunds.iter().map(|refund| {
        let amount = refund.currency.parse();
        let amount = amount.and_then(|of| Money::new(refund.amount_cents, of));
        let amount = amount.map_or_else(
            |_| format!("{} {}", refund.amount_cents, refund.currency),
            |money| money.to_string(),
        );
        format!("{} of {}: {amount}", refund.payments, refund.reason)
    });
    each.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale() -> SaleReport {
        SaleReport {
            opens_at: Timestamp::from_micros(1_700_000_000_500_000),
            closes_at: Timestamp::from_micros(1_700_000_060_500_000),
            closed_at: None,
            units: 0,
            paid_units: 0,
            orders: OrderFigures {
                unpaid: 0,
                overdue: 0,
                paid: 0,
                expired: 0,
                cancelled: 0,
                rejected: 0,
                first_at: None,
                last_at: None,
                expiry_late_ms_median: None,
                expiry_late_ms_max: None,
            },
            sold_out_at: None,
            refunds: Vec::new(),
        }
    }

    #[test]
    fn the_time_that_prometheus_is_asked_of_covers_the_sale_up_to_now() {
        let sale = sale();
        assert!(Queries::of(&sale, sale.opens_at).is_none(), "not open yet");
        let later = Timestamp::from_micros(1_800_000_000_000_000);
        let asked = Queries::of(&sale, later).unwrap().answers;
        assert!(asked.contains("[62s] @ 1700000061"), "{asked}");
        let now = Timestamp::from_micros(1_700_000_010_000_000);
        let asked = Queries::of(&sale, now).unwrap().answers;
        assert!(asked.contains("[11s] @ 1700000011"), "{asked}");
    }
}
