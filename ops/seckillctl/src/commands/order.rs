//! Orders: their current state in PostgreSQL, their earlier states, and their history in the log.

use anyhow::Context;
use clap::Subcommand;
use seckill_domain::{Offset, Order, OrderId, PaymentId, RejectReason};
use serde_json::Value;
use time::OffsetDateTime;

use crate::commands::db::connect;
use crate::commands::sale::parse_time;
use crate::commands::timeline::{history, unknown};
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, fields, moment};
use crate::settings::Settings;

/// What to do with orders.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show an order and where in the log it was decided.
    Show {
        /// The id of the order.
        #[arg(value_name = "ID")]
        order: OrderId,
        /// Show the state of the order at this time, in RFC 3339, from the log, instead of the current one in
        /// PostgreSQL.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<OffsetDateTime>,
    },
    /// Show every record of an order in the log, with the decision on it and the reason.
    ///
    /// Folds the sale's events as the projector does. Reads only the log.
    #[command(
        after_help = "Example: seckillctl order timeline 00000004-4c2a-8f5a-91b3-5a0000000001 --at 2030-01-01T12:00:00Z"
    )]
    Timeline {
        /// The id of the order.
        #[arg(value_name = "ID")]
        order: OrderId,
        /// Only records that were written at this time, in RFC 3339, or before.
        #[arg(long, value_name = "TIME", value_parser = parse_time)]
        at: Option<OffsetDateTime>,
    },
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    match command {
        Command::Show { order, at: None } => show(order, settings).await,
        Command::Show { order, at } => show_past(order, at, settings).await,
        Command::Timeline { order, at } => {
            let history = history(&Log::open(settings)?, order, at).await?;
            crate::commands::timeline::report(&history, order)
        }
    }
}

/// Shows an earlier state of an order, from the log only.
async fn show_past(
    order_id: OrderId,
    at: Option<OffsetDateTime>,
    settings: &Settings,
) -> Result<Report, Failure> {
    let state = history(&Log::open(settings)?, order_id, at).await?.state;
    let order = state.orders.get(&order_id);
    let order = order.ok_or_else(|| unknown(order_id))?;
    let refund_due = state.refunds.iter().any(|r| r.order_id == order_id);
    Ok(report(order, refund_due))
}

async fn show(order_id: OrderId, settings: &Settings) -> Result<Report, Failure> {
    let orderbook = connect(settings)?;
    let order = orderbook.order(order_id).await;
    let order = order.context("cannot read the order")?.ok_or_else(|| {
        Failure::NotFound(format!(
            "PostgreSQL has no order {order_id}; one that was reserved a moment ago may still be on \
             its way"
        ))
    })?;
    let refunds = orderbook.refund_due(&[order_id]).await;
    let refunds = refunds.context("cannot read the order's refunds")?;
    Ok(report(&order, refunds.contains(&order_id)))
}

fn report(order: &Order, refund_due: bool) -> Report {
    let (closed_at, closed_offset) = order.closed.unzip();
    let members: [(&str, Value); 16] = [
        ("order_id", order.order_id.to_string().into()),
        ("voucher_id", order.order_id.voucher_id().get().into()),
        ("user_id", order.user_id.get().into()),
        ("quantity", order.quantity.into()),
        ("amount_cents", order.amount.cents().into()),
        ("currency", order.amount.currency().as_str().into()),
        ("status", order.status.as_str().into()),
        (
            "reject_reason",
            order.rejected.map(RejectReason::as_str).into(),
        ),
        ("reserved_at", moment(order.reserved_at).into()),
        ("pay_by", moment(order.pay_by).into()),
        ("closed_at", closed_at.map(moment).into()),
        (
            "payment_id",
            order.payment_id.as_ref().map(PaymentId::as_str).into(),
        ),
        ("refund_due", refund_due.into()),
        ("version", order.version().into()),
        ("reserved_offset", order.reserved_offset.get().into()),
        ("closed_offset", closed_offset.map(Offset::get).into()),
    ];
    let amount = ("amount", order.amount.to_string());
    let cells = members.iter().map(|(name, value)| (*name, cell(value)));
    let text: Vec<_> = std::iter::once(amount).chain(cells).collect();
    Report {
        text: fields(&text),
        json: members
            .into_iter()
            .map(|(n, v)| (n.to_owned(), v))
            .collect(),
    }
}

/// A member as text for people: strings without quotes, and a hyphen for null.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::{Money, OrderStatus, Timestamp, UserId, VoucherId};

    #[test]
    fn both_forms_say_what_the_row_says() {
        let order = Order {
            order_id: OrderId::from_parts(VoucherId::new(17).unwrap(), 1, 1),
            user_id: UserId::new(7).unwrap(),
            quantity: 2,
            amount: Money::new(9800, "EUR".parse().unwrap()).unwrap(),
            status: OrderStatus::Expired,
            rejected: None,
            reserved_at: Timestamp::from_micros(0),
            pay_by: Timestamp::from_micros(900_000_000),
            key_hash: None,
            reserved_offset: Offset::new(3),
            closed: Some((Timestamp::from_micros(902_000_000), Offset::new(8))),
            payment_id: None,
        };
        let Report { json, text } = report(&order, true);
        assert_eq!(json["voucher_id"], 17);
        assert_eq!(json["closed_at"], "1970-01-01T00:15:02Z");
        assert_eq!(json["closed_offset"], 8);
        assert_eq!(json["payment_id"], Value::Null);
        for line in [
            "amount           €98.00",
            "status           expired",
            "payment_id       -",
            "refund_due       true",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
}
