//! The pages: HTML made here, brought to life by one script a page that talks to the same API as
//! everybody else. Nothing in them comes from another host, and nothing in them is inline.

pub(crate) mod assets;
mod shop;

use actix_web::http::header::{ACCEPT, ContentType, HeaderValue, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use askama::Template;
use seckill_domain::VoucherId;

use crate::http::problem::Problem;
use crate::http::resource::resource;

pub use shop::PaymentPage;

/// `data:` is the empty icon.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

const HEADERS: [(&str, &str); 4] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
];

/// The buyers' pages, on the public listener.
pub fn public_routes(config: &mut web::ServiceConfig) {
    config
        .service(get("/", web::get().to(shop::shelf)))
        .service(get("/sales/{voucher_id}", web::get().to(shop::sale)))
        .service(get("/orders", web::get().to(shop::orders)))
        .service(get("/sign-in", web::get().to(shop::sign_in)))
        .service(get("/assets/{name}", web::get().to(assets::serve)));
}

/// What is under no other path: the page that was meant, or that there is none.
pub(crate) async fn not_found(http: HttpRequest) -> Result<HttpResponse, Problem> {
    let problem = Problem::not_found("There is nothing under this path.");
    if http.method() != Method::GET {
        return Err(problem);
    }
    if let Some(meant) = as_it_is_called(http.path()) {
        let mut redirect = HttpResponse::PermanentRedirect();
        return Ok(redirect.insert_header((LOCATION, meant)).finish());
    }
    let accepts = http.headers().get(ACCEPT).map(HeaderValue::as_bytes);
    let wants_page = accepts.is_some_and(|types| types.windows(9).any(|part| part == b"text/html"));
    if wants_page || http.path().starts_with("/sales/") {
        shop::not_served(&problem)
    } else {
        Err(problem)
    }
}

/// The path of a page that somebody typed with one slash too many or too few.
fn as_it_is_called(path: &str) -> Option<String> {
    if path == "/docs" {
        return Some("/docs/".to_owned());
    }
    let page = path.strip_suffix('/')?;
    let sale = page.strip_prefix("/sales/").map(str::parse::<VoucherId>);
    let is_page = ["/orders", "/sign-in", "/ops"].contains(&page) || matches!(sale, Some(Ok(_)));
    is_page.then(|| page.to_owned())
}

pub(crate) fn get(path: &str, route: Route) -> Resource {
    resource(path, [(Method::GET, route)])
}

/// A page with the headers that every page has.
pub(crate) fn page(status: StatusCode, template: &impl Template) -> Result<HttpResponse, Problem> {
    let html = template.render().map_err(Problem::internal)?;
    let mut response = HttpResponse::build(status);
    for header in HEADERS {
        response.insert_header(header);
    }
    Ok(response.content_type(ContentType::html()).body(html))
}
