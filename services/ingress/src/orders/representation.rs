//! Orders as answers spell them.

use seckill_domain::{Order, OrderStatus, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::http::rfc3339;
use crate::http::schema::one_of;
use crate::reads::{OrderView, PendingOrder};

/// What an order is before it is decided.
pub(super) const PENDING: &str = "pending";

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Order, example = json!({
    "order_id": "00000000-0700-8000-8000-040000000001", "voucher_id": 7, "user_id": 42,
    "quantity": 2, "amount_cents": 1998, "currency": "EUR", "status": "unpaid",
    "reserved_at": "2026-05-01T10:00:00Z", "pay_by": "2026-05-01T10:15:00Z",
}))]
pub struct OrderBody {
    #[schema(format = "uuid")]
    order_id: String,
    voucher_id: i64,
    user_id: i64,
    /// Units.
    quantity: u32,
    /// What is to be paid in all, in minor units of the currency by ISO 4217: 4900 is €49.00, ¥4900 or KWD 4.900.
    #[schema(minimum = 0)]
    amount_cents: i64,
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    #[schema(schema_with = order_status)]
    status: &'static str,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    reserved_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    pay_by: Timestamp,
    /// When it became final.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = DateTime)]
    closed_at: Option<String>,
    /// Whether a payment that could not be honoured is to be given back; left out where there is none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    refund_due: bool,
}

fn order_status() -> Object {
    let decided = OrderStatus::ALL.map(OrderStatus::as_str);
    one_of(
        "pending: granted, not decided yet. unpaid: the units are the buyer's until pay_by. All others are final.",
        [PENDING].into_iter().chain(decided),
    )
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
            status: PENDING,
            reserved_at: order.reserved_at,
            pay_by: order.pay_by,
            closed_at: None,
            refund_due: false,
        }
    }
}

/// One page of the caller's orders, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct OrdersPage {
    pub(super) orders: Vec<OrderBody>,
    /// The `before` of the page after this one; null at the end.
    #[schema(required = true)]
    pub(super) next: Option<String>,
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
