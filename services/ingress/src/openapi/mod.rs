//! The OpenAPI documents: one for buyers and the payment provider, and one for operators. Each is on its own listener
//! at `/openapi.json`, with a viewer at `/docs/`.
//!
//! An operation is described at its handler. Things that many operations share are only named there, in three
//! extensions, and [`complete`] adds their descriptions: `x-problems` are the operation's own refusals, `x-headers` the
//! response headers by status (`*`: any answer may have them), and `x-parameters` the request headers. Everything that
//! follows from the operation itself (parameters in the path, refusals of a body or of a caller, and refusals that
//! every operation has) need not be named.

mod complete;
mod pages;
mod problems;
mod shared;
mod viewer;

use std::sync::LazyLock;

use actix_web::http::Method;
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, Route};
use serde_json::Value;
use utoipa::OpenApi;

use crate::http::problem::FieldError;
use crate::http::resource::resource;
use crate::operators::{api as admin, audit, findings, letters, report, search, who};
use crate::orders::{cancel, place, sse, status};
use crate::payments::api as payments;
use crate::shop::vouchers;
use crate::sign_in::api as sign_in;
use complete::complete;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flash-sale orders",
        description = "What buyers and the payment provider are served. Every refusal is \
            `application/problem+json` (RFC 9457) with a stable `type`. A method that a path does not \
            take is answered 405 with `Allow`; HEAD is taken wherever GET is. A request may bring a W3C `traceparent`, which goes \
            with its event; an answer from 400 on names the trace in `traceresponse`.",
    ),
    servers((url = "/")),
    tags(
        (name = "Sign-in", description = "A code by mail becomes a token."),
        (name = "Vouchers", description = "What is on sale."),
        (name = "Orders", description = "From the click to the payment."),
        (name = "Payments", description = "For the payment provider."),
        (name = "Pages", description = "For people."),
    ),
    paths(
        sign_in::send_code, sign_in::sign_in, sign_in::sign_out, sign_in::sign_out_everywhere,
        vouchers::list, vouchers::one, vouchers::sale_token,
        place::place, cancel::cancel, status::list, status::one, sse::stream,
        payments::webhook,
    ),
    components(schemas(FieldError)),
)]
struct PublicApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flash-sale orders: operators",
        description = "What operators are served, on the admin listener. Every refusal is \
            `application/problem+json` (RFC 9457) with a stable `type`. A method that a path does not \
            take is answered 405 with `Allow`; HEAD is taken wherever GET is.",
    ),
    servers((url = "/")),
    tags(
        (name = "Sales", description = "Sales are scheduled and changed by events."),
        (name = "Pipeline", description = "How far the views are behind the log, and what it says."),
        (name = "Operators", description = "Who may do what."),
        (name = "Process", description = "For what watches this process."),
        (name = "Pages", description = "For people."),
    ),
    paths(
        admin::list, admin::schedule, admin::adjust_stock, admin::close, admin::ledger,
        admin::overview, admin::pulse, admin::timeline, report::report, audit::of_sale, who::operator, letters::list, letters::one, letters::redrive,
        findings::list,
        search::find,
    ),
    components(schemas(FieldError)),
)]
struct AdminApi;

/// The document of the public listener.
#[must_use]
pub fn public() -> Value {
    let of_all = ["internal", "overloaded", "unavailable"];
    complete(PublicApi::openapi(), &of_all, &pages::PUBLIC)
}

/// The document of the admin listener.
#[must_use]
pub fn admin() -> Value {
    let of_all = ["internal", "unavailable"];
    complete(AdminApi::openapi(), &of_all, &pages::ADMIN)
}

static PUBLIC: LazyLock<Bytes> = LazyLock::new(|| public().to_string().into());
static ADMIN: LazyLock<Bytes> = LazyLock::new(|| admin().to_string().into());

/// The document of the public API, and its viewer.
pub fn public_routes(config: &mut web::ServiceConfig) {
    routes(config, web::get().to(async || document(&PUBLIC)));
}

/// The document of the operators' API, and its viewer.
pub fn admin_routes(config: &mut web::ServiceConfig) {
    routes(config, web::get().to(async || document(&ADMIN)));
}

fn routes(config: &mut web::ServiceConfig, document: Route) {
    config
        .service(resource("/openapi.json", [(Method::GET, document)]))
        .service(resource(
            "/docs/",
            [(Method::GET, web::get().to(viewer::page))],
        ))
        .service(resource(
            "/docs/{name}",
            [(Method::GET, web::get().to(viewer::file))],
        ));
}

fn document(bytes: &Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header(("cache-control", "no-cache"))
        .body(bytes.clone())
}
