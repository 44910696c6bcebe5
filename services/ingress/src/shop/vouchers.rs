//! The public catalogue.

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::VoucherId;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::request;
use crate::reads::Reads;
use crate::shop::Shop;
use crate::shop::representation::{SaleTokenBody, VoucherBody, VouchersPage};

const PAGE_DEFAULT: u32 = 20;
const PAGE_MAX: u32 = 100;

/// As long as the answer is remembered here, so that a proxy in front may do the same.
const CACHE_CONTROL: (&str, &str) = ("cache-control", "public, max-age=1");

/// Returns a sale.
///
/// # Errors
/// `not-found`, `unavailable`.
#[utoipa::path(
    get,
    path = "/api/v1/vouchers/{voucher_id}",
    operation_id = "getVoucher",
    tag = "Vouchers",
    responses((status = 200, description = "The sale.", body = VoucherBody)),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request", "not-found"])),
    ),
)]
pub async fn one(shop: web::Data<Shop>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let voucher_id = request::voucher_id(&http)?;
    let found = shop.reads.voucher(voucher_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("There is no such voucher."))?;
    Ok(HttpResponse::Ok()
        .insert_header(CACHE_CONTROL)
        .json(VoucherBody::new(&view, timestamp_now())))
}

/// Returns a token for one order of a sale.
///
/// Pages get a token when they are opened. No store is asked, so there is a token also for a sale that does not
/// exist.
///
/// # Errors
/// `unauthorized`, `invalid-request`, `not-found`.
#[utoipa::path(
    get,
    path = "/api/v1/vouchers/{voucher_id}/sale-token",
    operation_id = "getSaleToken",
    tag = "Vouchers",
    responses((status = 200, description = "A new token.", body = SaleTokenBody)),
    security(("token" = [])),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"], "*": ["X-Renewed-Token"]})),
        ("x-problems" = json!(["denied", "invalid-request", "not-found"])),
    ),
)]
pub async fn sale_token(shop: web::Data<Shop>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = shop.gate.buyer(&http).await?.user_id;
    let voucher_id = request::voucher_id(&http)?;
    let issued = shop
        .gate
        .sale_tokens
        .issue(user_id, voucher_id, timestamp_now())?;
    Ok(HttpResponse::Ok().json(SaleTokenBody::from(issued)))
}

/// Where a page begins: `before` is the `next` of the page before.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// Entries of the page: 20 if left out, moved to the nearest from 1 to 100.
    #[param(value_type = i64, required = false, minimum = 0, maximum = 4_294_967_295_i64)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 1_099_511_627_775_i64)]
    before: Option<i64>,
}

/// Lists the sales on the shelf.
///
/// The newest first. A sale whose last unit is paid is not in the list.
///
/// # Errors
/// `invalid-request`, `unavailable`.
#[utoipa::path(
    get,
    path = "/api/v1/vouchers",
    operation_id = "listVouchers",
    tag = "Vouchers",
    params(PageQuery),
    responses((status = 200, description = "A page.", body = VouchersPage)),
    extensions(
        ("x-headers" = json!({"200": ["Cache-Control"]})),
        ("x-problems" = json!(["invalid-request"])),
    ),
)]
pub async fn list(shop: web::Data<Shop>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let page = page(&shop.reads, &http, Which::OnShelf).await?;
    Ok(HttpResponse::Ok().insert_header(CACHE_CONTROL).json(page))
}

/// Which sales a page has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    OnShelf,
    All,
}

/// One page.
///
/// # Errors
/// `invalid-request`, `unavailable`.
pub(crate) async fn page(
    reads: &Reads,
    http: &HttpRequest,
    which: Which,
) -> Result<VouchersPage, Problem> {
    let page: PageQuery = request::page_query(http)?;
    let limit = page.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX);
    let before = page.before.map(VoucherId::new).transpose();
    let before = before.map_err(|error| Problem::invalid(format!("before: {error}.")))?;
    let views = match which {
        Which::OnShelf => reads.vouchers(limit, before).await?,
        Which::All => reads.all_vouchers(limit, before).await?,
    };
    let now = timestamp_now();
    let full = views.len() == limit as usize;
    let last = views.last().filter(|_| full);
    let next = last.map(|view| view.card.voucher_id.get());
    let vouchers = views
        .iter()
        .map(|view| VoucherBody::new(view, now))
        .collect();
    Ok(VouchersPage { vouchers, next })
}
