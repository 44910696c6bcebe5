//! The operators' pages. The pages themselves contain no data: their scripts load them with the admin token, which the
//! operator types in and which the browser deletes when the tab is closed. Actions that the operator may not do are not
//! shown, but only the API enforces this.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use seckill_domain::{Reason, Terms, VoucherId};

use crate::http::problem::Problem;
use crate::http::request;
use crate::shop::pages::{Page, assets, get, page};

#[derive(Template)]
#[template(path = "operators.html")]
struct Operators {
    page: Page,
}

/// `GET /ops`.
async fn overview(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let shown = Page::of(&http);
    page(&http, StatusCode::OK, &Operators { page: shown })
}

#[derive(Template)]
#[template(path = "operators_sale.html")]
struct OperatorsSale {
    page: Page,
    voucher_id: VoucherId,
}

/// `GET /ops/sales/{voucher_id}`.
async fn sale(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let (page_of, voucher_id) = (Page::of(&http), request::voucher_id(&http)?);
    let shown = OperatorsSale {
        page: page_of,
        voucher_id,
    };
    page(&http, StatusCode::OK, &shown)
}

/// The pages and their parts, on the admin listener.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/ops", web::get().to(overview)))
        .service(get("/ops/sales/{voucher_id}", web::get().to(sale)))
        .service(get("/assets/{name}", web::get().to(assets::serve)));
}
