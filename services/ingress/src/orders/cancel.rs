//! Cancelling an order.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{EventBody, OrderCancelled, OrderStatus};

use crate::http::problem::Problem;
use crate::http::trace::trace_of;
use crate::http::{events, request};
use crate::orders::Orders;
use crate::orders::representation::OrderBody;
use crate::reads::OrderView;

/// Cancels an unpaid order.
///
/// The answer 202 has the order as it was before. The order is cancelled when that is decided in the log; a payment
/// that came first wins.
///
/// # Errors
/// `unauthorized`, `not-found`, `not-cancellable`, `unavailable`.
#[utoipa::path(
    post,
    path = "/api/v1/orders/{order_id}/cancel",
    operation_id = "cancelOrder",
    tag = "Orders",
    responses((status = 202, description = "The cancellation is in the log.", body = OrderBody)),
    security(("token" = [])),
    extensions(
        ("x-headers" = json!({"*": ["X-Renewed-Token"]})),
        ("x-problems" = json!(["denied", "invalid-request", "not-cancellable", "not-found"])),
    ),
)]
pub async fn cancel(orders: web::Data<Orders>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = orders.gate.buyer(&http).await?.user_id;
    let order_id = request::order_id(&http)?;
    let found = orders.reads.order(order_id, user_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("You have no such order."))?;
    match &view {
        OrderView::Pending(_) => {
            return Err(Problem::not_cancellable(
                "The order is not reserved yet: cancel it when its status is unpaid.",
            ));
        }
        OrderView::Decided { order, .. } if order.status != OrderStatus::Unpaid => {
            return Err(Problem::not_cancellable(format!(
                "The order is {} already.",
                order.status.as_str()
            )));
        }
        OrderView::Decided { .. } => {}
    }
    let cancelled = EventBody::OrderCancelled(OrderCancelled { order_id, user_id });
    let event = events::now(order_id.voucher_id(), cancelled)?;
    let trace = trace_of(&http);
    orders.reservations.publish(event, trace).await?;
    tracing::info!(%trace, %order_id, %user_id, "cancellation is in the log");
    Ok(HttpResponse::Accepted().json(OrderBody::from(&view)))
}
