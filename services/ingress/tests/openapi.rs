//! The documents of both APIs. They are made by the code, and have to be what is committed:
//! `SECKILL_WRITE=1 cargo test -p seckill-ingress --test openapi` writes them anew.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::{BTreeMap, BTreeSet};

use actix_web::introspection::IntrospectionTree;
use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
use actix_web::{App, HttpResponse, web};
use seckill_domain::Refusal;
use seckill_ingress::openapi;
use seckill_ingress::routes;
use seckill_service::ops::Ops;
use seckill_testkit::{check_written, check_written_json};
use serde_json::Value;

const WRITE: &str = "cargo test -p seckill-ingress --test openapi";

#[test]
fn the_documents_say_what_the_code_does() {
    check_written_json("docs/openapi.json", &openapi::public(), WRITE).unwrap();
    check_written_json("docs/openapi-admin.json", &openapi::admin(), WRITE).unwrap();
}

/// The refusals of an order for people, from the answers that `placeOrder` documents.
fn refusals() -> String {
    let mut page = "# Why a sale refuses an order

Nothing was taken, and nothing is in the log. An answer is `application/problem+json` (RFC 9457) with a stable `type`, which ends in the
name. This page is written from the code (`crates/domain/src/refusal.rs`, `services/ingress/src/http/problem/refusal.rs`) by
`SECKILL_WRITE=1 cargo test -p seckill-ingress --test openapi`.

| Status | Name | What it says |
| --- | --- | --- |
"
    .to_owned();
    let document = openapi::public();
    let answers = &document["paths"]["/api/v1/vouchers/{voucher_id}/orders"]["post"]["responses"];
    let names: BTreeSet<_> = Refusal::examples().map(Refusal::name).into();
    let mut told = BTreeMap::new();
    for (status, answer) in answers.as_object().unwrap() {
        let examples = &answer["content"]["application/problem+json"]["examples"];
        for (name, example) in examples.as_object().into_iter().flatten() {
            if names.contains(name.as_str()) {
                told.insert((status, name), &example["value"]["detail"]);
            }
        }
    }
    assert_eq!(told.len(), names.len(), "{told:?}");
    for ((status, name), detail) in told {
        page += &format!("| {status} | `{name}` | {} |\n", detail.as_str().unwrap());
    }
    page
}

#[test]
fn the_page_of_refusals_says_what_the_code_does() {
    check_written("docs/refusals.md", &refusals(), WRITE).unwrap();
}

/// Path and method of every operation.
fn documented(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            found.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    found
}

const ROUTES: &str = "/the-routes-themselves";

async fn routes(tree: web::Data<IntrospectionTree>) -> HttpResponse {
    let report = tree.report_as_json();
    HttpResponse::Ok()
        .content_type("application/json")
        .body(report)
}

/// Path and method of every route that actix-web has registered.
async fn registered(configure: impl FnOnce(&mut web::ServiceConfig)) -> BTreeSet<String> {
    let app = App::new()
        .route(ROUTES, web::get().to(routes))
        .configure(configure);
    let service = init_service(app).await;
    let response = call_service(&service, TestRequest::get().uri(ROUTES).to_request()).await;
    let report: Vec<Value> = read_body_json(response).await;
    let mut found = BTreeSet::new();
    for item in &report {
        let path = item["full_path"].as_str().unwrap();
        let methods = item["methods"].as_array().unwrap();
        let any = methods.is_empty() && item["resource_type"] == "resource";
        assert!(
            !any,
            "a route that takes any method is not to be documented: {item}"
        );
        for method in methods {
            found.insert(format!("{} {path}", method.as_str().unwrap()));
        }
    }
    assert!(found.remove(&format!("GET {ROUTES}")), "{report:?}");
    found
}

#[actix_web::test]
async fn every_public_route_is_documented_and_nothing_else_is() {
    let routes = registered(routes::public_routes).await;
    assert!(routes.len() > 15, "{routes:?}");
    assert_eq!(routes, documented(&openapi::public()));
}

#[actix_web::test]
async fn every_admin_route_is_documented_and_nothing_else_is() {
    let ops = Ops::install("ingress", &[]).unwrap();
    let routes = registered(|config| {
        ops.routes(config);
        routes::admin_routes(config);
    });
    let routes = routes.await;
    assert!(routes.len() > 12, "{routes:?}");
    assert_eq!(routes, documented(&openapi::admin()));
}
