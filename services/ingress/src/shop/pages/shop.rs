//! The buyers' pages: the list of sales, a sale, the buyer's own orders, the sign-in.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use seckill_domain::{Timestamp, VoucherId};

use super::{Page, page, picture};
use crate::http::events::timestamp_now;
use crate::http::problem::Problem;
use crate::http::request;
use crate::reads::VoucherView;
use crate::shop::Shop;

/// As many as a person looks through.
const SHELF_MAX: u32 = 60;

/// Where a buyer pays: an address of the payment provider. The page adds `order_id`,
/// `amount_cents`, `currency` and `return_to` to its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentPage(String);

impl PaymentPage {
    /// As it was configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PaymentPage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: actix_web::http::Uri = text.parse().map_err(|error| format!("{error}"))?;
        match (address.scheme_str(), address.authority()) {
            (Some("http" | "https"), Some(_)) => Ok(Self(text.to_owned())),
            _ => Err("an address begins with https:// or http://".to_owned()),
        }
    }
}

impl fmt::Display for PaymentPage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sale as pages show it.
struct SaleCard {
    voucher_id: i64,
    picture: String,
    title: String,
    /// For browsers without scripts. The script writes it in the page's language.
    price: String,
    cents: i64,
    currency: String,
    status: &'static str,
    status_text: &'static str,
    ended: bool,
    stock_left: i64,
    max_quantity: u32,
    opens_ms: i64,
    closes_ms: i64,
}

impl SaleCard {
    fn new(view: &VoucherView, now: Timestamp, page: &Page) -> Self {
        let card = &view.card;
        let (status, ended) = (view.status(now), view.has_ended(now));
        Self {
            voucher_id: card.voucher_id.get(),
            picture: picture::of(card.voucher_id),
            title: card.title.clone(),
            price: card.price.to_string(),
            cents: card.price.cents(),
            currency: card.price.currency().to_string(),
            status: status.as_str(),
            status_text: page.texts.status(status, ended),
            ended,
            stock_left: view.stock_left(),
            max_quantity: card.max_quantity,
            opens_ms: millis(card.opens_at),
            closes_ms: millis(card.closes_at),
        }
    }
}

fn millis(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(1000)
}

#[derive(Template)]
#[template(path = "shelf.html")]
struct Shelf {
    page: Page,
    limit: u32,
    sales: Vec<SaleCard>,
}

#[derive(Template)]
#[template(path = "sale.html")]
struct Sale<'a> {
    page: Page,
    sale: SaleCard,
    payment_page: &'a str,
}

#[derive(Template)]
#[template(path = "orders.html")]
struct Orders<'a> {
    page: Page,
    payment_page: &'a str,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    page: Page,
}

#[derive(Template)]
#[template(path = "not_served.html")]
struct NotServed {
    page: Page,
    title: &'static str,
    detail: &'static str,
}

/// `GET /`: the newest sales that are not over.
pub(super) async fn shelf(
    shop: web::Data<Shop>,
    http: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let views = match shelf_of(&shop).await {
        Ok(views) => views,
        Err(problem) => return not_served(&http, &problem),
    };
    let (now, shown) = (timestamp_now(), Page::of(&http));
    let cards = views.iter().map(|view| SaleCard::new(view, now, &shown));
    let sales = cards.filter(|card| !card.ended).collect();
    let shelf = Shelf {
        page: shown,
        limit: SHELF_MAX,
        sales,
    };
    page(&http, StatusCode::OK, &shelf)
}

/// `GET /sales/{voucher_id}`.
pub(super) async fn sale(
    shop: web::Data<Shop>,
    http: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let found = match request::voucher_id(&http) {
        Ok(voucher_id) => voucher(&shop, voucher_id).await,
        Err(problem) => Err(problem),
    };
    let view = match found {
        Ok(Some(view)) => view,
        Ok(None) => return not_served(&http, &Problem::not_found("There is no such sale.")),
        Err(problem) => return not_served(&http, &problem),
    };
    let shown = Page::of(&http);
    let sale = Sale {
        sale: SaleCard::new(&view, timestamp_now(), &shown),
        page: shown,
        payment_page: payment_page(&shop),
    };
    page(&http, StatusCode::OK, &sale)
}

async fn shelf_of(shop: &Shop) -> Result<Arc<[VoucherView]>, Problem> {
    if let Some(views) = shop.reads.remembered_shelf(SHELF_MAX).await {
        return Ok(views);
    }
    let _place = shop.gate.admission.page()?;
    Ok(shop.reads.vouchers(SHELF_MAX, None).await?)
}

async fn voucher(shop: &Shop, id: VoucherId) -> Result<Option<VoucherView>, Problem> {
    if let Some(view) = shop.reads.remembered_voucher(id).await {
        return Ok(view);
    }
    let _place = shop.gate.admission.page()?;
    Ok(shop.reads.voucher(id).await?)
}

/// `GET /orders`. The orders themselves come through the API: only the script has the token.
pub(super) async fn orders(
    shop: web::Data<Shop>,
    http: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let orders = Orders {
        page: Page::of(&http),
        payment_page: payment_page(&shop),
    };
    page(&http, StatusCode::OK, &orders)
}

/// `GET /sign-in`.
pub(super) async fn sign_in(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let shown = Page::of(&http);
    page(&http, StatusCode::OK, &SignIn { page: shown })
}

fn payment_page(shop: &Shop) -> &str {
    shop.payment_page.as_ref().map_or("", PaymentPage::as_str)
}

/// A refusal as a page.
pub(super) fn not_served(http: &HttpRequest, problem: &Problem) -> Result<HttpResponse, Problem> {
    let shown = Page::of(http);
    let texts = shown.texts;
    let status = actix_web::ResponseError::status_code(problem);
    let title = match status {
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST => texts.not_found,
        _ => texts.not_available,
    };
    let template = NotServed {
        page: shown,
        title,
        detail: texts.problem(problem.name()),
    };
    let mut response = page(http, status, &template)?;
    for (name, value) in problem.headers() {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_page_is_an_address_of_the_web() {
        assert!(
            "https://pay.example/checkout"
                .parse::<PaymentPage>()
                .is_ok()
        );
        assert!("http://127.0.0.1:8090/pay".parse::<PaymentPage>().is_ok());
        for bad in [
            "",
            "pay",
            "/pay",
            "javascript:alert(1)",
            "ftp://pay.example",
        ] {
            assert!(bad.parse::<PaymentPage>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_title_is_text_and_never_markup() {
        let sale = SaleCard {
            voucher_id: 7,
            title: "<script>alert(1)</script>\"'&".to_owned(),
            picture: String::new(),
            price: "€1.00".to_owned(),
            cents: 100,
            currency: "EUR".to_owned(),
            status: "open",
            status_text: "On sale",
            ended: false,
            stock_left: 3,
            max_quantity: 1,
            opens_ms: 0,
            closes_ms: 1,
        };
        let http = actix_web::test::TestRequest::default().to_http_request();
        let html = Sale {
            page: Page::of(&http),
            sale,
            payment_page: "\"><b>",
        }
        .render()
        .unwrap();
        assert!(!html.contains("<script>alert"), "{html}");
        assert!(!html.contains("\"><b>"), "{html}");
    }
}
