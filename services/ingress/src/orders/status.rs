//! A buyer's own orders.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{OrderId, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::problem::Problem;
use crate::http::{request, rfc3339};
use crate::orders::Orders;
use crate::orders::representation::{OrderBody, OrdersPage};
use crate::reads::OrderView;

const PAGE_DEFAULT: u32 = 20;
const PAGE_MAX: u32 = 100;

/// Returns an order of the caller.
///
/// The order of another user is answered like an order that does not exist.
///
/// # Errors
/// `unauthorized`, `not-found` also for somebody else's, `unavailable`.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}",
    operation_id = "getOrder",
    tag = "Orders",
    responses((status = 200, description = "The order.", body = OrderBody)),
    security(("token" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"], "*": ["X-Renewed-Token"]})),
        ("x-problems" = json!(["denied", "invalid-request", "not-found"])),
    ),
)]
pub async fn one(orders: web::Data<Orders>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = orders.gate.buyer(&http).await?.user_id;
    let order_id = request::order_id(&http)?;
    let found = orders.reads.order(order_id, user_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("You have no such order."))?;
    Ok(HttpResponse::Ok().json(OrderBody::from(&view)))
}

/// Where a page begins: `before` is the `next` of the page before.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PageQuery {
    /// Entries of the page: 20 if left out, moved to the nearest from 1 to 100.
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    before: Option<String>,
}

/// Lists the orders of the caller.
///
/// The newest first. A pending order is not in the list yet.
///
/// # Errors
/// `unauthorized`, `invalid-request`, `unavailable`.
#[utoipa::path(
    get,
    path = "/api/v1/orders",
    operation_id = "listOrders",
    tag = "Orders",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = OrdersPage)),
    security(("token" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"], "*": ["X-Renewed-Token"]})),
        ("x-problems" = json!(["denied", "invalid-request"])),
    ),
)]
pub async fn list(orders: web::Data<Orders>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = orders.gate.buyer(&http).await?.user_id;
    let page: PageQuery = request::page_query(&http)?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let before = page.before.as_deref().map(parse_cursor).transpose()?;
    let found = orders.reads.orders_of(user_id, limit, before).await?;
    let full = found.len() == limit as usize;
    let next = found.last().filter(|_| full).and_then(cursor_after);
    let orders = found.iter().map(OrderBody::from).collect();
    Ok(HttpResponse::Ok().json(OrdersPage { orders, next }))
}

/// `<reserved_at>_<order id>`: both, because orders may be reserved in the same microsecond.
fn cursor_after(view: &OrderView) -> Option<String> {
    match view {
        OrderView::Decided { order, .. } => Some(format!(
            "{}_{}",
            rfc3339::format(order.reserved_at),
            order.order_id
        )),
        OrderView::Pending(_) => None,
    }
}

fn parse_cursor(text: &str) -> Result<(Timestamp, OrderId), Problem> {
    let parsed = text.split_once('_').and_then(|(reserved_at, order_id)| {
        Some((rfc3339::parse(reserved_at).ok()?, order_id.parse().ok()?))
    });
    parsed.ok_or_else(|| Problem::invalid("before is the next of the page before: send that."))
}
