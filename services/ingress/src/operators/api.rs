//! The operators' API: sales are put up, restocked, shrunk and closed by events.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{EventBody, EventId, SaleScheduled, StockAdjusted, VoucherId};
use seckill_orderbook::SaleRow;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use crate::http::problem::Problem;
use crate::http::{body, events, request};
use crate::operators::Admin;
use crate::operators::change::{Change, Noted};
use crate::operators::members::Members;
use crate::operators::operations::{Overview, TimelineStep};
use crate::operators::pulse::Pulse;
use crate::operators::role::Action;
use crate::operators::stock_request::{StockChange, StockRequest};
use crate::operators::terms;
use crate::operators::terms::SaleRequest;
use crate::orders::reservations::{PublishError, ShrinkError};
use crate::reads::Ledger;
use crate::shop::representation::VouchersPage;
use crate::shop::vouchers;
use crate::shop::vouchers::{PageQuery, Which};

/// Which sale it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SaleNamed {
    voucher_id: i64,
}

/// Which event it is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventNamed {
    #[schema(format = "uuid")]
    event_id: String,
}

/// What the log has of an order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Timeline {
    records: Vec<TimelineStep>,
}

/// Schedules a sale.
///
/// The same request with the same `Idempotency-Key` again returns the same sale, and publishes its event again in
/// case the first one did not arrive. While PostgreSQL is behind the log the answer is 503, because an id that is
/// new to PostgreSQL may be that of a sale in the log.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `idempotency-key-reused`, `unavailable`.
#[utoipa::path(
    post,
    path = "/admin/v1/vouchers",
    operation_id = "scheduleSale",
    tag = "Sales",
    request_body = SaleRequest,
    responses((status = 202, description = "The sale is in the log.", body = SaleNamed)),
    security(("adminToken" = [])),
    extensions(
        ("x-parameters" = json!(["Idempotency-Key", "X-Operator", "X-Reason"])),
        ("x-problems" = json!(["idempotency-key-reused"])),
    ),
)]
pub async fn schedule(
    admin: web::Data<Admin>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let operator = admin.operator(&http, Action::PutUp).await?;
    let Members(body) = body::json(&http, payload).await?;
    let terms = terms::parse(&body, events::timestamp_now())
        .map_err(|errors| Problem::invalid_fields(&errors))?;
    let canonical = terms::canonical(&terms);
    let change = Change::new((&admin, &operator), &http, (&body.into(), &canonical), None)?;
    // The next id is one that no sale in the log has.
    admin.operations.fold_has_caught_up().await?;
    let voucher_id = change.note_sale(&admin).await?;
    let trace = change.trace;
    let scheduled = EventBody::SaleScheduled(SaleScheduled { terms });
    let event = events::now(voucher_id, scheduled)?;
    admin
        .reservations
        .publish(event, trace)
        .await
        .map_err(|error| not_recorded(error, change.repeat()))?;
    tracing::info!(%trace, %voucher_id, "sale is scheduled");
    Ok(HttpResponse::Accepted().json(SaleNamed {
        voucher_id: voucher_id.get(),
    }))
}

/// Adds units to a sale, or takes units off.
///
/// The stock changes when the event is folded. The same request with the same `Idempotency-Key` again is the same
/// event, and changes the stock once. A refusal is not remembered: the key may succeed later.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `not-found`, `stock-committed`, `idempotency-key-reused`,
/// `unavailable`.
#[utoipa::path(
    post,
    path = "/admin/v1/vouchers/{voucher_id}/stock",
    operation_id = "adjustStock",
    tag = "Sales",
    request_body = StockRequest,
    responses((status = 202, description = "The change is in the log.", body = EventNamed)),
    security(("adminToken" = [])),
    extensions(
        ("x-parameters" = json!(["Idempotency-Key", "X-Operator"])),
        ("x-problems" = json!(["ended", "idempotency-key-reused", "not-found", "stock-committed"])),
    ),
)]
pub async fn adjust_stock(
    admin: web::Data<Admin>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let operator = admin.operator(&http, Action::Act).await?;
    let voucher_id = request::voucher_id(&http)?;
    let request: StockRequest = body::json(&http, payload).await?;
    let StockChange { delta, reason } = request.check()?;
    known_sale(&admin, voucher_id).await?;
    let asked = json!({ "delta": delta });
    let canonical = json!(["stock", voucher_id.get(), delta, reason.as_str()]).to_string();
    let terms = (&asked, canonical.as_bytes());
    let change = Change::new((&admin, &operator), &http, terms, Some(&reason))?;
    let Noted { event_id, again } = change.note(&admin, voucher_id).await?;
    if !(again && is_decided(&admin, voucher_id, event_id).await?) {
        let adjusted = StockAdjusted {
            delta,
            reason,
            epoch: None,
        };
        if delta > 0 {
            restock(&admin, &change, (event_id, voucher_id), adjusted).await?;
        } else {
            shrink(&admin, &change, (event_id, voucher_id), adjusted).await?;
        }
        tracing::info!(trace = %change.trace, %voucher_id, %event_id, delta, "stock is changed");
    }
    Ok(HttpResponse::Accepted().json(EventNamed {
        event_id: event_id.to_string(),
    }))
}

async fn is_decided(
    admin: &Admin,
    voucher_id: VoucherId,
    event_id: EventId,
) -> Result<bool, Problem> {
    let found = admin.reads.with_orderbook(move |orderbook| async move {
        orderbook.has_adjustment(voucher_id, event_id).await
    });
    Ok(found.await?)
}

async fn restock(
    admin: &Admin,
    change: &Change,
    (event_id, voucher_id): (EventId, VoucherId),
    adjusted: StockAdjusted,
) -> Result<(), Problem> {
    let event = events::with_id(event_id, voucher_id, EventBody::StockAdjusted(adjusted))?;
    let published = admin.reservations.publish(event, change.trace).await;
    published.map_err(|error| not_recorded(error, change.repeat()))
}

/// The units are taken in Redis before the event is written: what is free now may not be later.
async fn shrink(
    admin: &Admin,
    change: &Change,
    (event_id, voucher_id): (EventId, VoucherId),
    adjusted: StockAdjusted,
) -> Result<(), Problem> {
    let units = u32::try_from(adjusted.delta.unsigned_abs()).map_err(Problem::internal)?;
    let taken = admin
        .reservations
        .shrink(voucher_id, event_id, units, adjusted.reason, change.trace)
        .await;
    match taken {
        // Without an ack the units are taken all the same, and the relay publishes the event.
        Ok(()) | Err(ShrinkError::Unacknowledged) => Ok(()),
        Err(ShrinkError::NotServed) => Err(admin.reads.why_not_served(voucher_id).await),
        Err(ShrinkError::Committed { free }) => Err(Problem::stock_committed(free)),
        Err(ShrinkError::Unavailable) => Err(Problem::unavailable(format!(
            "Whether units were taken is not known: {}.",
            change.repeat()
        ))),
    }
}

/// Closes a sale. Live orders can still be paid.
///
/// Closing a sale again changes nothing.
///
/// # Errors
/// `unauthorized`, `forbidden`, `not-found`, `idempotency-key-reused`, `unavailable`.
#[utoipa::path(
    post,
    path = "/admin/v1/vouchers/{voucher_id}/close",
    operation_id = "closeSale",
    tag = "Sales",
    responses((status = 202, description = "The closing is in the log.", body = SaleNamed)),
    security(("adminToken" = [])),
    extensions(
        ("x-parameters" = json!(["Idempotency-Key", "X-Operator", "X-Reason"])),
        ("x-problems" = json!(["idempotency-key-reused", "invalid-request", "not-found"])),
    ),
)]
pub async fn close(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let operator = admin.operator(&http, Action::Act).await?;
    let voucher_id = request::voucher_id(&http)?;
    let row = known_sale(&admin, voucher_id).await?;
    let canonical = json!(["close", voucher_id.get()]).to_string();
    let terms = (&json!({}), canonical.as_bytes());
    let change = Change::new((&admin, &operator), &http, terms, None)?;
    let Noted { event_id, .. } = change.note(&admin, voucher_id).await?;
    if row.sale.closed.is_none() {
        let event = events::with_id(event_id, voucher_id, EventBody::SaleClosed)?;
        admin.reservations.publish(event, change.trace).await?;
        tracing::info!(trace = %change.trace, %voucher_id, "sale is closed");
    }
    Ok(HttpResponse::Accepted().json(SaleNamed {
        voucher_id: voucher_id.get(),
    }))
}

/// Returns where the units of a sale are, in PostgreSQL and in Redis.
///
/// # Errors
/// `unauthorized`, `forbidden`, `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/vouchers/{voucher_id}/ledger",
    operation_id = "getLedger",
    tag = "Sales",
    responses((status = 200, description = "The ledger.", body = Ledger)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn ledger(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let voucher_id = request::voucher_id(&http)?;
    let found = admin.reads.ledger(voucher_id).await?;
    let ledger = found.ok_or_else(unknown_sale)?;
    Ok(HttpResponse::Ok().json(ledger))
}

/// Lists all sales, also those that are off the shelf.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/vouchers",
    operation_id = "listSales",
    tag = "Sales",
    params(PageQuery),
    responses((status = 200, description = "A page, the newest first.", body = VouchersPage)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request"])),
    ),
)]
pub async fn list(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let page = vouchers::page(&admin.reads, &http, Which::All).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// Returns how far the views are behind the log, and the number of dead letters.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/overview",
    operation_id = "getOverview",
    tag = "Pipeline",
    responses((status = 200, description = "At most two seconds old.", body = Overview)),
    security(("adminToken" = [])),
    extensions(("x-headers" = json!({"200": ["Cache-Control"]}))),
)]
pub async fn overview(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let overview = admin.operations.overview().await?;
    Ok(HttpResponse::Ok().json(overview))
}

/// Returns the last ten minutes of all instances, in slots of five seconds: answers to orders, their latency, lag,
/// and the stock of the newest sales.
///
/// # Errors
/// `unauthorized`, `forbidden`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/pulse",
    operation_id = "getPulse",
    tag = "Pipeline",
    responses((status = 200, description = "What the instances have reported.", body = Pulse)),
    security(("adminToken" = [])),
    extensions(("x-headers" = json!({"200": ["Cache-Control"]}))),
)]
pub async fn pulse(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let slots = admin.slots.clone();
    Ok(HttpResponse::Ok().json(slots.read().await?))
}

/// Returns the records of an order in the log, and what was decided about each.
///
/// # Errors
/// `unauthorized`, `forbidden`, `invalid-request`, `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/orders/{order_id}/timeline",
    operation_id = "getTimeline",
    tag = "Pipeline",
    responses((status = 200, description = "Every record, in the log's order.", body = Timeline)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn timeline(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let order_id = request::order_id(&http)?;
    let steps = admin.operations.timeline(order_id).await?;
    let steps = steps.ok_or_else(|| Problem::not_found("The log has no record of this order."))?;
    Ok(HttpResponse::Ok().json(Timeline { records: steps }))
}

/// A sale that was just scheduled may not be folded yet.
async fn known_sale(admin: &Admin, voucher_id: VoucherId) -> Result<Arc<SaleRow>, Problem> {
    admin.reads.sale(voucher_id).await?.ok_or_else(unknown_sale)
}

pub(super) fn unknown_sale() -> Problem {
    Problem::not_found("There is no such voucher. One just scheduled takes a moment: try again.")
}

fn not_recorded(error: PublishError, repeat: &'static str) -> Problem {
    match error {
        PublishError::NotSent(_) => {
            Problem::unavailable("Nothing was recorded: try again in a moment.")
        }
        PublishError::Unacknowledged | PublishError::Failed => {
            Problem::unavailable(format!("Whether it was recorded is not known: {repeat}."))
        }
    }
    .because(error)
}
