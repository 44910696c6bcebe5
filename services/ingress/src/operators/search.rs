//! Orders by what somebody who asks for help knows: a user, or a payment.

use std::collections::{HashMap, HashSet};

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{Order, OrderId, PaymentId, UserId};
use seckill_orderbook::{Orderbook, OrderbookError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::problem::Problem;
use crate::http::rfc3339;
use crate::operators::Admin;
use crate::operators::role::Action;

/// As many as a person looks through.
const FOUND_MAX: u32 = 50;

/// What is known of the order: one of the two.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Whose orders.
    #[param(value_type = i64, required = false, minimum = 1)]
    user_id: Option<i64>,
    /// A payment for it, honoured or not, of any sale.
    #[param(value_type = String, required = false)]
    payment_id: Option<String>,
}

enum By {
    User(UserId),
    Payment(PaymentId),
}

impl Asked {
    fn by(self) -> Option<By> {
        match (self.user_id, self.payment_id) {
            (Some(user), None) => UserId::new(user).ok().map(By::User),
            (None, Some(payment)) => PaymentId::new(payment).ok().map(By::Payment),
            _ => None,
        }
    }
}

/// Orders that were found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Found {
    /// Of a user the newest first.
    orders: Vec<FoundOrder>,
    /// Whether there may be more than the 50 that were looked up.
    more: bool,
}

/// An order. Where all but its ids is null, a payment names an order that the log does not have.
#[derive(Debug, Serialize, ToSchema)]
struct FoundOrder {
    #[schema(format = "uuid")]
    order_id: String,
    voucher_id: i64,
    #[schema(required = true)]
    user_id: Option<i64>,
    /// Units.
    #[schema(required = true)]
    quantity: Option<u32>,
    #[schema(required = true)]
    status: Option<&'static str>,
    #[schema(required = true, format = DateTime)]
    reserved_at: Option<String>,
    /// The payment that was honoured.
    #[schema(required = true)]
    payment_id: Option<String>,
    /// Whether a payment for it is to be given back.
    refund_due: bool,
}

/// Finds the orders of a user, or of a payment.
///
/// Pending orders are not found yet.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/orders",
    operation_id = "findOrders",
    tag = "Pipeline",
    params(Asked),
    responses((status = 200, description = "At most 50.", body = Found)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request"])),
    ),
)]
pub async fn find(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let asked = web::Query::<Asked>::from_query(http.query_string()).ok();
    let by = asked.and_then(|asked| asked.into_inner().by());
    let by = by.ok_or_else(|| Problem::invalid("Ask by one of user_id and payment_id."))?;
    let found = admin.reads.with_orderbook(|orderbook| found(orderbook, by));
    Ok(HttpResponse::Ok().json(found.await?))
}

async fn found(orderbook: Orderbook, by: By) -> Result<Found, OrderbookError> {
    let (ids, orders) = match by {
        By::User(user) => {
            let orders = orderbook.orders_of(user, FOUND_MAX, None).await?;
            let ids: Vec<OrderId> = orders.iter().map(|order| order.order_id).collect();
            (ids, orders)
        }
        By::Payment(payment) => {
            let ids = orderbook.orders_paid_by(&payment, FOUND_MAX).await?;
            let orders = orderbook.orders(&ids).await?;
            (ids, orders)
        }
    };
    let refunds: HashSet<OrderId> = orderbook.refund_due(&ids).await?;
    let orders = orders.into_iter().map(|order| (order.order_id, order));
    let orders: HashMap<OrderId, Order> = orders.collect();
    let shown = ids.iter().map(|id| {
        let refund_due = refunds.contains(id);
        FoundOrder::new(*id, orders.get(id), refund_due)
    });
    Ok(Found {
        orders: shown.collect(),
        more: ids.len() == FOUND_MAX as usize,
    })
}

impl FoundOrder {
    fn new(id: OrderId, order: Option<&Order>, refund_due: bool) -> Self {
        Self {
            order_id: id.to_string(),
            voucher_id: id.voucher_id().get(),
            user_id: order.map(|order| order.user_id.get()),
            quantity: order.map(|order| order.quantity),
            status: order.map(|order| order.status.as_str()),
            reserved_at: order.map(|order| rfc3339::format(order.reserved_at)),
            payment_id: order
                .and_then(|order| Some(order.payment_id.as_ref()?.as_str().to_owned())),
            refund_due,
        }
    }
}
