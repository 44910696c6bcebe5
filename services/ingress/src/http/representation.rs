//! Orders and vouchers as answers spell them.

use seckill_domain::{Order, Timestamp};
use serde::Serialize;

use crate::reads::{OrderView, PendingOrder, VoucherView};
use crate::rfc3339;

/// An order.
#[derive(Debug, Serialize)]
pub struct OrderBody {
    order_id: String,
    voucher_id: i64,
    user_id: i64,
    quantity: u32,
    amount_cents: i64,
    currency: String,
    status: &'static str,
    #[serde(serialize_with = "rfc3339::serialize")]
    reserved_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    pay_by: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    closed_at: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    refund_due: bool,
}

impl From<&OrderView> for OrderBody {
    fn from(view: &OrderView) -> Self {
        match view {
            OrderView::Decided { order, refund_due } => Self::decided(order, *refund_due),
            OrderView::Pending(order) => Self::pending(order),
        }
    }
}

impl OrderBody {
    fn decided(order: &Order, refund_due: bool) -> Self {
        Self {
            order_id: order.order_id.to_string(),
            voucher_id: order.order_id.voucher_id().get(),
            user_id: order.user_id.get(),
            quantity: order.quantity,
            amount_cents: order.amount.cents(),
            currency: order.amount.currency().to_string(),
            status: order.status.as_str(),
            reserved_at: order.reserved_at,
            pay_by: order.pay_by,
            closed_at: order.closed.map(|(at, _)| rfc3339::format(at)),
            refund_due,
        }
    }

    fn pending(order: &PendingOrder) -> Self {
        Self {
            order_id: order.order_id.to_string(),
            voucher_id: order.order_id.voucher_id().get(),
            user_id: order.user_id.get(),
            quantity: order.quantity,
            amount_cents: order.amount.cents(),
            currency: order.amount.currency().to_string(),
            status: "pending",
            reserved_at: order.reserved_at,
            pay_by: order.pay_by,
            closed_at: None,
            refund_due: false,
        }
    }
}

/// A sale as buyers see it.
#[derive(Debug, Serialize)]
pub struct VoucherBody {
    voucher_id: i64,
    title: String,
    price_cents: i64,
    currency: String,
    stock_left: i64,
    max_quantity: u32,
    #[serde(serialize_with = "rfc3339::serialize")]
    opens_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    closes_at: Timestamp,
    status: &'static str,
}

impl VoucherBody {
    /// As it is at `now`.
    #[must_use]
    pub fn new(view: &VoucherView, now: Timestamp) -> Self {
        let card = &view.card;
        Self {
            voucher_id: card.voucher_id.get(),
            title: card.title.clone(),
            price_cents: card.price.cents(),
            currency: card.price.currency().to_string(),
            stock_left: view.stock_left(),
            max_quantity: card.max_quantity,
            opens_at: card.opens_at,
            closes_at: card.closes_at,
            status: view.status(now).as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::{Money, Offset, OrderId, OrderStatus, UserId, VoucherId};
    use serde_json::json;

    fn order(closed: Option<(Timestamp, Offset)>) -> Order {
        Order {
            order_id: OrderId::from_parts(VoucherId::new(7).unwrap(), 1, 1),
            user_id: UserId::new(42).unwrap(),
            quantity: 2,
            amount: Money::new(1998, "EUR".parse().unwrap()).unwrap(),
            status: OrderStatus::Unpaid,
            rejected: None,
            reserved_at: Timestamp::from_micros(1_777_629_600_000_000),
            pay_by: Timestamp::from_micros(1_777_629_660_000_000),
            key_hash: None,
            reserved_offset: Offset::new(3),
            closed,
            payment_id: None,
        }
    }

    #[test]
    fn an_order_has_the_members_of_the_contract_and_no_others() {
        let open = OrderBody::decided(&order(None), false);
        assert_eq!(
            serde_json::to_value(open).unwrap(),
            json!({
                "order_id": order(None).order_id.to_string(),
                "voucher_id": 7,
                "user_id": 42,
                "quantity": 2,
                "amount_cents": 1998,
                "currency": "EUR",
                "status": "unpaid",
                "reserved_at": "2026-05-01T10:00:00Z",
                "pay_by": "2026-05-01T10:01:00Z",
            })
        );
        let at = Timestamp::from_micros(1_777_629_600_500_000);
        let closed = OrderBody::decided(&order(Some((at, Offset::new(4)))), true);
        let closed = serde_json::to_value(closed).unwrap();
        assert_eq!(closed["closed_at"], "2026-05-01T10:00:00.5Z");
        assert_eq!(closed["refund_due"], true);
    }
}
