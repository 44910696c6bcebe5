//! Bad input gets the right problem, and moves no stock.

use anyhow::Result;
use reqwest::{Method, RequestBuilder};
use seckill_tests::{Answer, Client, SaleTerms, World, check_consistency};
use serde_json::{Value, json};

struct Case {
    name: &'static str,
    request: RequestBuilder,
    status: u16,
    problem: &'static str,
}

fn check(name: &str, answer: &Answer, status: u16, problem: &str) {
    assert_eq!(
        (answer.status, answer.problem()),
        (status, problem),
        "{name}: {answer:?}"
    );
    assert_eq!(answer.content_type, "application/problem+json", "{name}");
    assert_eq!(answer.body["status"], status, "{name}");
    let detail = answer.body["detail"].as_str().unwrap_or_default();
    assert!(!detail.is_empty(), "{name} says nothing: {answer:?}");
}

const fn case(
    name: &'static str,
    request: RequestBuilder,
    status: u16,
    problem: &'static str,
) -> Case {
    Case {
        name,
        request,
        status,
        problem,
    }
}

fn callers_that_are_nobody(client: &Client, path: &str) -> Result<Vec<Case>> {
    let anonymous = || client.request(Method::POST, path);
    let other_audience = client.sign(&json!({
        "sub": "1", "iat": 1, "exp": 4_000_000_000_u64, "iss": "seckill", "aud": "elsewhere",
    }))?;
    let expired = client.sign(&json!({
        "sub": "1", "iat": 1, "exp": 2, "iss": "seckill", "aud": "seckill",
    }))?;
    let unauthorized = |name, request| case(name, request, 401, "unauthorized");
    Ok(vec![
        unauthorized("no token", anonymous()),
        unauthorized("no JWT", anonymous().bearer_auth("x.y.z")),
        unauthorized("another audience", anonymous().bearer_auth(other_audience)),
        unauthorized("an expired token", anonymous().bearer_auth(expired)),
    ])
}

fn bodies_that_are_no_orders(client: &Client, path: &str, token: &str) -> Vec<Case> {
    let buyer = || client.request(Method::POST, path).bearer_auth(token);
    let typed = |content_type: &str| buyer().header("Content-Type", content_type);
    let of = |quantity: Value| buyer().json(&json!({ "quantity": quantity }));
    let invalid = |name, request| case(name, request, 400, "invalid-request");
    let limit = |name, quantity: i64| case(name, of(quantity.into()), 422, "quantity-limit");
    let large = typed("application/json").body(vec![b' '; 10_000_000]);
    let text = typed("text/plain").body("{}");
    vec![
        case("text", text, 415, "unsupported-media-type"),
        case("10 MB", large, 413, "payload-too-large"),
        invalid("no JSON", typed("application/json").body("{")),
        invalid("a fraction", of(json!(1.5))),
        invalid("a word", of(json!("one"))),
        invalid(
            "an endless key",
            buyer().header("Idempotency-Key", "x".repeat(256)),
        ),
        limit("quantity 0", 0),
        limit("quantity -1", -1),
        limit("quantity 3 of 2", 3),
    ]
}

fn places_that_are_not_there(client: &Client, path: &str, token: &str) -> Vec<Case> {
    let to = |method, path: &str| client.request(method, path).bearer_auth(token);
    let order = |voucher: &str| to(Method::POST, &format!("/api/v1/vouchers/{voucher}/orders"));
    vec![
        case("an unknown voucher", order("999999"), 404, "not-found"),
        case("voucher 0", order("0"), 400, "invalid-request"),
        case("voucher x", order("x"), 400, "invalid-request"),
        case(
            "an unknown path",
            to(Method::POST, "/api/v1/nothing"),
            404,
            "not-found",
        ),
        case(
            "the wrong method",
            to(Method::DELETE, path),
            405,
            "method-not-allowed",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_that_cannot_be_taken() -> Result<()> {
    let world = World::start()?;
    let terms = SaleTerms {
        max_quantity: 2,
        ..SaleTerms::default()
    };
    let voucher = world.sale(terms).await?;
    let client = &world.client;
    let (path, token) = (
        format!("/api/v1/vouchers/{voucher}/orders"),
        client.token(1)?,
    );
    let mut cases = callers_that_are_nobody(client, &path)?;
    cases.extend(bodies_that_are_no_orders(client, &path, &token));
    cases.extend(places_that_are_not_there(client, &path, &token));
    for case in cases {
        let answer = client.send(case.request).await?;
        check(case.name, &answer, case.status, case.problem);
    }
    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["redis_available"], &ledger["held"]),
        (&10.into(), &0.into()),
        "{ledger}"
    );
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_of_others_and_ids_of_nobody() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;
    let unknown = seckill_domain::OrderId::from_parts(voucher, 1, 1).to_string();

    for tail in ["", "/events"] {
        for (id, status, problem) in [
            (order_id, 404, "not-found"),
            (unknown.as_str(), 404, "not-found"),
            ("7b0e8f2e-33a1-4c55-9c4d-1f6f4f3a2b10", 404, "not-found"),
            ("nonsense", 400, "invalid-request"),
        ] {
            let path = format!("/api/v1/orders/{id}{tail}");
            check(&path, &world.client.get(2, &path).await?, status, problem);
        }
    }
    let own = world.client.get(1, "/api/v1/orders").await?;
    assert!(own.body.to_string().contains(order_id), "{own:?}");
    let others = world.client.get(2, "/api/v1/orders").await?;
    assert!(!others.body.to_string().contains(order_id), "{others:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn payments_that_nobody_signed() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().expect("an order id");
    world.until_status(1, order_id, "unpaid").await?;
    let body = json!({
        "payment_id": "p", "order_id": order_id, "amount_cents": 1_000, "currency": "EUR",
        "paid_at": "2026-01-01T00:00:00Z",
    })
    .to_string();
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let webhook = || {
        let request = world
            .client
            .request(Method::POST, "/api/v1/payments/webhook");
        request
            .header("Content-Type", "application/json")
            .body(body.clone())
    };
    let sign = |at| world.client.signature(at, &body);
    for (name, signature) in [
        ("none", None),
        ("no signature", Some("hello".to_owned())),
        (
            "another secret's",
            Some(format!("t={now},v1={}", "0".repeat(64))),
        ),
        ("another body's", Some(world.client.signature(now, "{}")?)),
        ("a stale one", Some(sign(now - 301)?)),
        ("one of tomorrow", Some(sign(now + 86_400)?)),
        (
            "a replayed one",
            Some(sign(now)?.replace(&now.to_string(), &(now - 1).to_string())),
        ),
    ] {
        let request = signature.map_or_else(webhook, |s| webhook().header("X-Signature", s));
        check(
            name,
            &world.client.send(request).await?,
            401,
            "unauthorized",
        );
    }
    let bad = "{\"payment_id\": 1}";
    let request = world
        .client
        .request(Method::POST, "/api/v1/payments/webhook")
        .body(bad);
    let request = request.header("X-Signature", world.client.signature(now, bad)?);
    let answer = world
        .client
        .send(request.header("Content-Type", "application/json"))
        .await?;
    check("a body that is no payment", &answer, 400, "invalid-request");

    let ledger = world.quiet(voucher).await?;
    assert_eq!(
        (&ledger["unpaid"], &ledger["paid"]),
        (&1.into(), &0.into()),
        "{ledger}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_without_a_token_or_with_nonsense() -> Result<()> {
    let world = World::start()?;
    let url = format!("{}/admin/v1/vouchers", world.client.admin_url);
    let http = reqwest::Client::new();
    let anonymous = world.client.send(http.post(&url).json(&json!({}))).await?;
    check("no token", &anonymous, 401, "unauthorized");
    let wrong = http.post(&url).bearer_auth("guess").json(&json!({}));
    check(
        "a guess",
        &world.client.send(wrong).await?,
        401,
        "unauthorized",
    );
    let empty = world
        .client
        .admin_post("/admin/v1/vouchers", &json!({}))
        .await?;
    check("nothing", &empty, 400, "invalid-request");
    let backwards = json!({
        "title": "", "price_cents": -1, "currency": "euro", "stock": 0, "max_quantity": 0,
        "opens_at": "2030-01-02T00:00:00Z", "closes_at": "2030-01-01T00:00:00Z", "hold_seconds": 0,
    });
    let refused = world
        .client
        .admin_post("/admin/v1/vouchers", &backwards)
        .await?;
    check("nonsense", &refused, 400, "invalid-request");
    let errors = refused.body["errors"].as_array().map_or(0, Vec::len);
    assert!(errors >= 6, "all mistakes at once: {refused:?}");
    let missing = world
        .client
        .admin_get("/admin/v1/vouchers/999999/ledger")
        .await?;
    check("an unknown sale", &missing, 404, "not-found");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_type_finds_its_page_and_no_answer_has_a_parsers_words() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let browser = || reqwest::Client::builder().build();
    let get = async |path: &str| -> Result<(u16, String, String)> {
        let request = browser()?.get(format!("{}{path}", world.ingress.url()));
        let answer = request.header("Accept", "text/html,*/*").send().await?;
        let found = (answer.status().as_u16(), answer.url().path().to_owned());
        Ok((found.0, found.1, answer.text().await?))
    };
    for (typed, found) in [
        (format!("/sales/{voucher}/"), format!("/sales/{voucher}")),
        ("/orders/".to_owned(), "/orders".to_owned()),
        ("/sign-in/".to_owned(), "/sign-in".to_owned()),
        ("/docs".to_owned(), "/docs/".to_owned()),
    ] {
        let (status, path, body) = get(&typed).await?;
        assert_eq!((status, path), (200, found), "{typed}");
        assert!(
            body.contains("<!doctype html>") || body.contains("<!DOCTYPE html>"),
            "{typed}"
        );
    }
    let (status, _, body) = get("/sale/7").await?;
    assert!(status == 404 && body.contains("All sales"), "{body}");
    for query in ["limit=many", "limit=-1", "before=1.5", "limit=99999999999"] {
        let path = format!("/api/v1/vouchers?{query}");
        let answer = world
            .client
            .send(world.client.request(Method::GET, &path))
            .await?;
        check(query, &answer, 400, "invalid-request");
        let detail = answer.body["detail"].as_str().unwrap_or_default();
        assert!(detail.contains("limit is a whole number"), "{detail}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_takes_each_query_and_a_sale_each_member_once() -> Result<()> {
    let world = World::start()?;
    let client = &world.client;
    for list in ["/api/v1/vouchers", "/api/v1/orders", "/admin/v1/vouchers"] {
        for (query, status) in [("limit=3&utm=x", 200), ("limit=3&limit=4", 400)] {
            let path = format!("{list}?{query}");
            let answer = if list.starts_with("/admin") {
                client.admin_get(&path).await?
            } else {
                client.get(1, &path).await?
            };
            assert_eq!(answer.status, status, "{path}: {answer:?}");
        }
    }
    let sale = r#""title": "Lamp", "price_cents": 999, "currency": "EUR", "max_quantity": 1,
        "opens_at": "2026-05-01T10:00:00Z", "closes_at": "2999-01-01T00:00:00Z""#;
    for (stock, status) in [
        (r#""stock": 1, "stock": 1000"#, 400),
        (r#""stock": 1, "stok": 1"#, 400),
        (r#""stock": 1"#, 202),
    ] {
        let answer = reqwest::Client::new()
            .post(format!("{}/admin/v1/vouchers", client.admin_url))
            .bearer_auth(world.stack.setting("ADMIN_TOKEN"))
            .header("content-type", "application/json")
            .body(format!("{{{sale}, {stock}}}"))
            .send()
            .await?;
        assert_eq!(answer.status(), status, "{stock}");
    }
    Ok(())
}
