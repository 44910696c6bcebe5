//! The HTTP APIs: routes, and what every handler shares.

pub mod admin;
pub mod events;
mod members;
pub mod middleware;
mod operator;
pub mod orders;
pub mod orders_read;
pub mod payments;
pub mod representation;
pub mod request;
pub mod sign_in;
pub mod sse;
mod stock_request;
pub mod terms;
pub mod vouchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::{HttpRequest, HttpResponse, Resource, Route, web};
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::auth::{Operator, Operators};
use crate::body::Arriving;
use crate::limits::{Limits, TrustedProxies};
use crate::openapi;
use crate::operations::Operations;
use crate::pages::{self, PaymentPage};
use crate::problem::Problem;
use crate::reads::Reads;
use crate::reservations::Reservations;
use crate::risk::Risk;
use crate::sale_tokens::SaleTokens;
use crate::sign_in::SignIn;
use crate::streams::Streams;
use crate::tokens::{Caller, Tokens};
use crate::webhook::Webhook;

/// Counts requests to the operators' API without a good token.
pub(crate) const ADMIN_REFUSED_TOTAL: &str = "seckill_admin_refused_total";

/// What handlers share: one for the whole process.
pub struct App {
    /// Who is let in at all.
    pub admission: Admission,
    /// Whose bodies are on their way.
    pub arriving: Arriving,
    /// Takes orders and publishes events.
    pub reservations: Reservations,
    /// Answers questions.
    pub reads: Reads,
    /// What operators look at.
    pub operations: Operations,
    /// Who is a buyer.
    pub tokens: Tokens,
    /// Who has had a sale's page.
    pub sale_tokens: SaleTokens,
    /// How somebody becomes one.
    pub sign_in: SignIn,
    /// Who is an operator.
    pub operators: Operators,
    /// Who is the payment provider.
    pub webhook: Webhook,
    /// Where buyers pay; without it pages have no such button.
    pub payment_page: Option<PaymentPage>,
    /// How often somebody may order.
    pub limits: Limits,
    /// Whose orders are refused.
    pub risk: Risk,
    /// Whose word is taken for where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// Who waits for which order.
    pub streams: Streams,
    /// Ends all streams: they would hold a shutdown up for ever.
    pub stop_streams: CancellationToken,
    /// Whether the start has checked everything that orders depend on.
    pub started: AtomicBool,
}

impl App {
    /// Whether requests may be served.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// The buyer whose token the request carries, if no operator has blocked them. If this request renews
    /// the token, the answer will carry the new one.
    ///
    /// # Errors
    /// `unauthorized`, `denied`.
    pub fn buyer(&self, http: &HttpRequest) -> Result<Caller, Problem> {
        let caller = self.tokens.caller(http.headers())?;
        self.risk.check_user(caller.user_id)?;
        self.tokens.renew(http, &caller)?;
        Ok(caller)
    }

    /// The operator whose token the request carries.
    ///
    /// # Errors
    /// `unauthorized` without such a token; it is counted, and logged with the address.
    pub fn operator(&self, http: &HttpRequest) -> Result<Operator, Problem> {
        self.operators.find(http.headers()).ok_or_else(|| {
            metrics::counter!(ADMIN_REFUSED_TOTAL).increment(1);
            let (trace, path) = (middleware::trace_of(http), http.path());
            let address = self.trusted_proxies.client(http);
            tracing::warn!(%trace, ?address, path, "a request without an admin token was refused");
            Problem::unauthorized("Send Authorization: Bearer with the admin token.")
        })
    }

    /// Whether what was begun for a caller may go on.
    #[must_use]
    pub fn is_still_welcome(&self, caller: &Caller) -> bool {
        self.tokens.is_still_good(caller) && self.risk.check_user(caller.user_id).is_ok()
    }

    /// Requests may be served from now on.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}

/// The public API.
pub fn public_routes(config: &mut web::ServiceConfig) {
    let api = web::scope("/api/v1")
        .wrap(from_fn(middleware::hand_out_renewed_token))
        .wrap(from_fn(middleware::require_started))
        .service(resource(
            "/sign-in/codes",
            [(Method::POST, web::post().to(sign_in::send_code))],
        ))
        .service(resource(
            "/sign-in",
            [(Method::POST, web::post().to(sign_in::sign_in))],
        ))
        .service(resource(
            "/sign-out",
            [(Method::POST, web::post().to(sign_in::sign_out))],
        ))
        .service(resource(
            "/sign-out/everywhere",
            [(Method::POST, web::post().to(sign_in::sign_out_everywhere))],
        ))
        .service(resource(
            "/vouchers",
            [(Method::GET, web::get().to(vouchers::list))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}",
            [(Method::GET, web::get().to(vouchers::one))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/sale-token",
            [(Method::GET, web::get().to(vouchers::sale_token))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/orders",
            [(Method::POST, web::post().to(orders::place))],
        ))
        .service(resource(
            "/orders",
            [(Method::GET, web::get().to(orders_read::list))],
        ))
        .service(resource(
            "/orders/{order_id}",
            [(Method::GET, web::get().to(orders_read::one))],
        ))
        .service(resource(
            "/orders/{order_id}/events",
            [(Method::GET, web::get().to(sse::stream))],
        ))
        .service(resource(
            "/orders/{order_id}/cancel",
            [(Method::POST, web::post().to(orders::cancel))],
        ))
        .service(resource(
            "/payments/webhook",
            [(Method::POST, web::post().to(payments::webhook))],
        ));
    config
        .service(api)
        .configure(pages::public_routes)
        .configure(openapi::public_routes)
        .default_service(web::to(pages::not_found));
}

/// The operators' API. `/livez`, `/readyz` and `/metrics` are added by their owner.
pub fn admin_routes(config: &mut web::ServiceConfig) {
    let api = web::scope("/admin/v1")
        .wrap(from_fn(middleware::require_started))
        .service(resource(
            "/vouchers",
            [
                (Method::GET, web::get().to(admin::list)),
                (Method::POST, web::post().to(admin::schedule)),
            ],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/stock",
            [(Method::POST, web::post().to(admin::adjust_stock))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/close",
            [(Method::POST, web::post().to(admin::close))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/ledger",
            [(Method::GET, web::get().to(admin::ledger))],
        ))
        .service(resource(
            "/overview",
            [(Method::GET, web::get().to(admin::overview))],
        ))
        .service(resource(
            "/orders/{order_id}/timeline",
            [(Method::GET, web::get().to(admin::timeline))],
        ));
    config
        .service(api)
        .configure(pages::admin_routes)
        .configure(openapi::admin_routes)
        .default_service(web::to(pages::not_found));
}

/// A path and its methods; any other method is answered with those in `Allow`. HEAD comes here as GET.
pub(crate) fn resource<const N: usize>(path: &str, routes: [(Method, Route); N]) -> Resource {
    let mut resource = web::resource(path);
    let mut allowed = Vec::with_capacity(N + 1);
    for (method, route) in routes {
        let is_get = method == Method::GET;
        allowed.push(method);
        if is_get {
            allowed.push(Method::HEAD);
        }
        resource = resource.route(route);
    }
    let allowed: Arc<[Method]> = allowed.into();
    resource.default_service(web::to(move || {
        let refusal = Problem::method_not_allowed(&allowed);
        async move { Err::<HttpResponse, _>(refusal) }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::Value;

    async fn answer(request: TestRequest) -> (u16, Option<String>, Value) {
        let app = actix_web::App::new()
            .wrap(from_fn(middleware::observe))
            .configure(public_routes);
        let service = init_service(app).await;
        let response = call_service(&service, request.to_request()).await;
        let allow = response.headers().get("allow");
        let allow = allow.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        assert_eq!(
            response.headers().get("content-type").unwrap(),
            "application/problem+json"
        );
        (status, allow, read_body_json(response).await)
    }

    #[actix_web::test]
    async fn the_frameworks_own_answers_are_problems_too() {
        let (status, _, body) = answer(TestRequest::get().uri("/nowhere")).await;
        assert_eq!((status, &body["status"]), (404, &Value::from(404)));
        assert!(body["type"].as_str().unwrap().ends_with("/not-found"));
        let (status, _, _) = answer(TestRequest::get().uri("/admin/v1/vouchers")).await;
        assert_eq!(status, 404, "the admin API is not on the public listener");
    }

    #[actix_web::test]
    async fn nothing_is_served_before_the_start_is_over() {
        let (status, _, body) = answer(TestRequest::get().uri("/api/v1/vouchers")).await;
        assert_eq!(status, 503);
        assert!(body["type"].as_str().unwrap().ends_with("/unavailable"));
    }

    #[actix_web::test]
    async fn another_method_is_answered_with_those_allowed() {
        let routes = |config: &mut web::ServiceConfig| {
            let get = (Method::GET, web::get().to(pages::not_found));
            let post = (Method::POST, web::post().to(pages::not_found));
            config.service(resource("/both", [get, post]));
        };
        let service = init_service(actix_web::App::new().configure(routes)).await;
        let request = TestRequest::delete().uri("/both").to_request();
        let response = call_service(&service, request).await;
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers().get("allow").unwrap(), "GET, HEAD, POST");
        let body: Value = read_body_json(response).await;
        assert!(
            body["type"]
                .as_str()
                .unwrap()
                .ends_with("/method-not-allowed")
        );
    }
}
