//! The ingress as a process, over HTTP, with real stores. The projector's part is played by the
//! test, so that it can look at every moment in between.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod admission;
mod answers;
mod codes;
mod harness;
mod misses;
mod operations;
mod paths;
mod shared_limits;
mod signatures;
mod slow_bodies;
mod streams;

use std::time::Duration;

use harness::{Rig, eventually};
use reqwest::StatusCode;
use seckill_testkit::service::Service;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn an_order_goes_from_pending_to_paid_and_its_stream_follows() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let sale = rig.get(&format!("/api/v1/vouchers/{voucher}"), None).await;
    assert_eq!(sale.1["status"], "open", "{sale:?}");

    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let placed = rig.post(&orders, 1, json!({ "quantity": 2 })).await;
    assert_eq!(placed.0, 202, "{placed:?}");
    assert_eq!(placed.1["status"], "reserved");
    let order_id = placed.1["order_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/orders/{order_id}");
    let pending = rig.get(&path, Some(1)).await.1;
    assert_eq!(pending["status"], "pending", "{pending}");
    assert_eq!(pending["amount_cents"], 2 * 999);
    assert_eq!(rig.get(&path, Some(2)).await.0, 404, "somebody else's");
    let early = rig.post(&format!("{path}/cancel"), 1, Value::Null).await;
    assert_eq!((early.0, early.1["status"].as_u64()), (409, Some(409)));

    let stream = rig.stream(&order_id, 1);
    rig.fold().await;
    assert_eq!(rig.get(&path, Some(1)).await.1["status"], "unpaid");
    assert_eq!(rig.pay(&order_id, "p-1", 2 * 999).await, 202);
    rig.fold().await;
    let paid = rig.get(&path, Some(1)).await.1;
    assert_eq!(paid["status"], "paid");
    assert!(paid["closed_at"].is_string());
    let text = stream.await.unwrap();
    let ids: Vec<&str> = text.lines().filter(|l| l.starts_with("id: ")).collect();
    assert_eq!(ids.last(), Some(&"id: 2"), "{text}");
    assert!(ids.is_sorted(), "{text}");
    let final_cancel = rig.post(&format!("{path}/cancel"), 1, Value::Null).await;
    assert_eq!(final_cancel.0, 409);
    let listed = rig.get("/api/v1/orders", Some(1)).await.1;
    assert_eq!(listed["orders"][0]["order_id"], order_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_scheduled_once_for_one_idempotency_key() {
    let mut rig = Rig::start().await;
    let body = Rig::sale(10);
    let first = rig.schedule(&body, "monday").await;
    assert_eq!(first.0, 202, "{first:?}");
    let behind = rig.schedule(&body, "tuesday").await;
    assert_eq!(
        behind.0, 503,
        "the fold does not have the first one: {behind:?}"
    );
    rig.fold().await;
    assert_eq!(rig.schedule(&body, "monday").await, first);
    rig.fold().await;
    let other = rig.schedule(&Rig::sale(11), "monday").await;
    assert_eq!(other.0, 422);
    assert_eq!(
        other.1["type"],
        "https://seckill.example/problems/idempotency-key-reused"
    );
    let next = rig.schedule(&body, "tuesday").await;
    assert_ne!(next.1["voucher_id"], first.1["voucher_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_counts_what_is_in_flight_as_no_drift() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    assert_eq!(rig.post(&orders, 1, Value::Null).await.0, 202);

    let ledger = rig.ledger(voucher).await;
    assert_eq!(ledger["consistent"], true, "{ledger}");
    assert_eq!(
        (&ledger["available"], &ledger["in_flight"], &ledger["drift"]),
        (&json!(10), &json!(1), &json!(0)),
        "{ledger}"
    );
    rig.fold().await;
    let ledger = rig.ledger(voucher).await;
    assert_eq!(
        (&ledger["unpaid"], &ledger["in_flight"], &ledger["drift"]),
        (&json!(1), &json!(0), &json!(0)),
        "{ledger}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_orders_are_refused_and_the_catalogue_is_not() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    rig.redis.kill().unwrap();

    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let refused = rig.post(&orders, 1, Value::Null).await;
    assert_eq!(refused.0, 503, "{refused:?}");
    eventually("the catalogue to say so", async || {
        let sale = rig.get(&format!("/api/v1/vouchers/{voucher}"), None).await;
        sale.0 == 200 && sale.1["status"] == "closed" && sale.1["stock_left"] == 10
    })
    .await;
    eventually("redis to be named", async || {
        let ready = reqwest::get(format!("{}/readyz", rig.service.admin_url()));
        let ready: Value = ready.await.unwrap().json().await.unwrap();
        ready["problems"]["redis"].is_string()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_read_and_refused_so_that_the_client_sees_it() {
    let rig = Rig::start().await;
    let request = rig
        .http
        .post(format!("{}/api/v1/vouchers/1/orders", rig.service.url()))
        .bearer_auth(rig.token(1))
        .header("content-type", "application/json")
        .body(vec![b' '; 10_000_000]);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_and_the_process_in_order() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let placed = rig.post(&orders, 1, Value::Null).await.1;
    let stream = rig.stream(placed["order_id"].as_str().unwrap(), 1);
    let mut service = rig.service;
    let status = tokio::task::spawn_blocking(move || service.stop());
    assert!(status.await.unwrap().unwrap().success());
    stream.await.unwrap();
}

#[test]
fn wrong_settings_are_named_all_at_once() {
    let mut spec = Rig::bare_spec();
    spec.env
        .insert("ADMIN_TOKEN".to_owned(), "short".to_owned());
    spec.env.remove("REDIS_URL");
    let mut service = Service::launch(spec).unwrap();
    let status = service.wait_for_exit(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(2));
    let output = service.output().unwrap();
    assert!(output.contains("ADMIN_TOKEN"), "{output}");
    assert!(output.contains("REDIS_URL"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_number_of_partitions_is_not_started_on() {
    let rig = Rig::start().await;
    let mut spec = rig.spec();
    spec.env
        .insert("EVENT_PARTITIONS".to_owned(), "7".to_owned());
    let mut service = Service::launch(spec).unwrap();
    let status = service.wait_for_exit(Duration::from_secs(60)).unwrap();
    assert_eq!(status.code(), Some(1));
    assert!(service.output().unwrap().contains("EVENT_PARTITIONS"));
}
