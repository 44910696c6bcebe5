//! The routes of both listeners.

use actix_web::http::Method;
use actix_web::middleware::from_fn;
use actix_web::web;

use crate::http::resource::resource;
use crate::operators::{self, api as admin, audit, findings, letters, report, search, who};
use crate::orders::{cancel, place, sse, status};
use crate::payments::api as payments;
use crate::shop::{pages, vouchers};
use crate::sign_in::api as sign_in;
use crate::{middleware, openapi};

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
            [(Method::POST, web::post().to(place::place))],
        ))
        .service(resource(
            "/orders",
            [(Method::GET, web::get().to(status::list))],
        ))
        .service(resource(
            "/orders/{order_id}",
            [(Method::GET, web::get().to(status::one))],
        ))
        .service(resource(
            "/orders/{order_id}/events",
            [(Method::GET, web::get().to(sse::stream))],
        ))
        .service(resource(
            "/orders/{order_id}/cancel",
            [(Method::POST, web::post().to(cancel::cancel))],
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
            "/vouchers/{voucher_id}/report",
            [(Method::GET, web::get().to(report::report))],
        ))
        .service(resource(
            "/vouchers/{voucher_id}/audit",
            [(Method::GET, web::get().to(audit::of_sale))],
        ))
        .service(resource(
            "/operator",
            [(Method::GET, web::get().to(who::operator))],
        ))
        .service(resource(
            "/overview",
            [(Method::GET, web::get().to(admin::overview))],
        ))
        .service(resource(
            "/pulse",
            [(Method::GET, web::get().to(admin::pulse))],
        ))
        .service(resource(
            "/findings",
            [(Method::GET, web::get().to(findings::list))],
        ))
        .service(resource(
            "/skipped-records",
            [(Method::GET, web::get().to(letters::list))],
        ))
        .service(resource(
            "/skipped-records/{partition}/{offset}",
            [(Method::GET, web::get().to(letters::one))],
        ))
        .service(resource(
            "/skipped-records/{partition}/{offset}/redrive",
            [(Method::POST, web::post().to(letters::redrive))],
        ))
        .service(resource(
            "/orders",
            [(Method::GET, web::get().to(search::find))],
        ))
        .service(resource(
            "/orders/{order_id}/timeline",
            [(Method::GET, web::get().to(admin::timeline))],
        ));
    config
        .service(api)
        .configure(operators::page::routes)
        .configure(openapi::admin_routes)
        .default_service(web::to(pages::not_found));
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
