//! The results of a sale. They are read with the same code as in `seckillctl sale report`.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::Timestamp;
use seckill_orderbook::{RefundFigures, SaleReport, StockChange};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::{request, rfc3339};
use crate::operators::Admin;
use crate::operators::api::unknown_sale;
use crate::operators::role::Action;

/// The most changes of a sale's stock in its report. The newest ones are taken.
const CHANGES: u32 = 50;

/// What became of a sale. What was refused before it was an order is not known of one sale: no metric names one.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Report {
    voucher_id: i64,
    title: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    opens_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    closes_at: Timestamp,
    /// When an operator ended it before.
    #[schema(required = true, format = DateTime)]
    closed_at: Option<String>,
    /// Whether it takes no orders any more, by this host's clock.
    over: bool,
    /// Units at the start, and those added less those taken away since.
    units: i64,
    /// Units in paid orders.
    paid_units: i64,
    #[schema(required = true)]
    sell_through_percent: Option<f64>,
    /// When the order was reserved that first took the last unit.
    #[schema(required = true, format = DateTime)]
    sold_out_at: Option<String>,
    #[schema(required = true)]
    sold_out_after_ms: Option<i64>,
    orders: Orders,
    /// Payments that are to be given back, by reason.
    refunds: Vec<Refunds>,
    /// Changes of its stock that are decided, the newest first; 50 at most.
    changes: Vec<Change>,
}

/// A sale's orders.
#[derive(Debug, Serialize, ToSchema)]
struct Orders {
    /// Those that stood: unpaid, paid, expired and cancelled.
    admitted: i64,
    unpaid: i64,
    /// Of the unpaid ones, past their time to pay.
    overdue: i64,
    paid: i64,
    expired: i64,
    cancelled: i64,
    /// Those that never stood.
    rejected: i64,
    #[schema(required = true, format = DateTime)]
    first_at: Option<String>,
    #[schema(required = true, format = DateTime)]
    last_at: Option<String>,
    /// How long after their time to pay orders expired: the median.
    #[schema(required = true)]
    expiry_late_ms_median: Option<i64>,
    /// The same of the latest.
    #[schema(required = true)]
    expiry_late_ms_max: Option<i64>,
}

/// Payments that are to be given back for one reason.
#[derive(Debug, Serialize, ToSchema)]
struct Refunds {
    reason: String,
    payments: i64,
    amount_cents: i64,
    currency: String,
}

/// A change of a sale's stock.
#[derive(Debug, Serialize, ToSchema)]
struct Change {
    /// Units added, or below 0 taken off.
    delta: i64,
    /// Whether it took effect.
    accepted: bool,
    reason: String,
    /// Of its event in the log.
    offset: i64,
}

/// Returns the results of a sale.
///
/// Costs as much as the sale has orders.
///
/// # Errors
/// `unauthorized`, `forbidden`, `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/admin/v1/vouchers/{voucher_id}/report",
    operation_id = "getReport",
    tag = "Sales",
    responses((status = 200, description = "By PostgreSQL, at one moment.", body = Report)),
    security(("adminToken" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn report(admin: web::Data<Admin>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    admin.operator(&http, Action::Read).await?;
    let voucher = request::voucher_id(&http)?;
    let row = admin.reads.sale(voucher).await?.ok_or_else(unknown_sale)?;
    let read = admin.reads.with_orderbook(move |orderbook| async move {
        let report = orderbook.sale_report(voucher).await?;
        Ok((report, orderbook.stock_changes(voucher, CHANGES).await?))
    });
    let (report, changes) = read.await?;
    let title = row.sale.terms.title.as_str().to_owned();
    let body = body(
        (voucher.get(), title),
        report.ok_or_else(unknown_sale)?,
        changes,
    );
    Ok(HttpResponse::Ok().json(body))
}

fn body((voucher_id, title): (i64, String), sale: SaleReport, changes: Vec<StockChange>) -> Report {
    let orders = sale.orders;
    let at = |at: Option<Timestamp>| at.map(rfc3339::format);
    Report {
        voucher_id,
        title,
        opens_at: sale.opens_at,
        closes_at: sale.closes_at,
        closed_at: at(sale.closed_at),
        over: sale.closed_at.unwrap_or(sale.closes_at) <= timestamp_now(),
        units: sale.units,
        paid_units: sale.paid_units,
        sell_through_percent: sale.sell_through_percent(),
        sold_out_at: at(sale.sold_out_at),
        sold_out_after_ms: sale.sold_out_after_ms(),
        orders: Orders {
            admitted: orders.admitted(),
            unpaid: orders.unpaid,
            overdue: orders.overdue,
            paid: orders.paid,
            expired: orders.expired,
            cancelled: orders.cancelled,
            rejected: orders.rejected,
            first_at: at(orders.first_at),
            last_at: at(orders.last_at),
            expiry_late_ms_median: orders.expiry_late_ms_median,
            expiry_late_ms_max: orders.expiry_late_ms_max,
        },
        refunds: sale.refunds.into_iter().map(Refunds::from).collect(),
        changes: changes.into_iter().map(Change::from).collect(),
    }
}

impl From<RefundFigures> for Refunds {
    fn from(refunds: RefundFigures) -> Self {
        Self {
            reason: refunds.reason,
            payments: refunds.payments,
            amount_cents: refunds.amount_cents,
            currency: refunds.currency,
        }
    }
}

impl From<StockChange> for Change {
    fn from(change: StockChange) -> Self {
        Self {
            delta: change.delta,
            accepted: change.accepted,
            reason: change.reason,
            offset: change.offset,
        }
    }
}
