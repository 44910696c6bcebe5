//! A buyer's own orders.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{OrderId, Timestamp};
use serde::Deserialize;
use serde_json::json;

use crate::http::representation::OrderBody;
use crate::http::{App, request};
use crate::problem::Problem;
use crate::reads::OrderView;
use crate::rfc3339;

const PAGE_DEFAULT: u32 = 20;
const PAGE_MAX: u32 = 100;

/// `GET /api/v1/orders/{id}`.
///
/// # Errors
/// `unauthorized`, `not-found` also for somebody else's, `unavailable`.
pub async fn one(app: web::Data<App>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = app.tokens.authenticate(&http)?;
    let order_id = request::order_id(&http)?;
    let found = app.reads.order(order_id, user_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("You have no such order."))?;
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(OrderBody::from(&view)))
}

/// Where a page begins: `before` is the `next` of the page before.
#[derive(Debug, Deserialize)]
struct PageQuery {
    limit: Option<u32>,
    before: Option<String>,
}

/// `GET /api/v1/orders?limit=&before=`: `{"orders": […], "next": …}`, the newest first. An order
/// that is pending is not among them yet.
///
/// # Errors
/// `unauthorized`, `invalid-request`, `unavailable`.
pub async fn list(app: web::Data<App>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = app.tokens.authenticate(&http)?;
    let page: PageQuery = request::query(&http)?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let before = page.before.as_deref().map(parse_cursor).transpose()?;
    let orders = app.reads.orders_of(user_id, limit, before).await?;
    let full = orders.len() == limit as usize;
    let next = orders.last().filter(|_| full).and_then(cursor_after);
    let bodies: Vec<OrderBody> = orders.iter().map(OrderBody::from).collect();
    Ok(HttpResponse::Ok()
        .insert_header(("cache-control", "no-store"))
        .json(json!({ "orders": bodies, "next": next })))
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
