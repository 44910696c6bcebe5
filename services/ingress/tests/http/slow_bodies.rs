//! A body that dribbles in keeps nobody out: it has no place while it is on its way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use seckill_ingress::openapi;
use serde_json::{Value, json};

use crate::harness::{Rig, eventually};

/// Of one operation.
const SOCKETS: usize = 100;
/// Places of each class: fewer than the slow ones of any operation.
const PLACES: &str = "20";
/// Beyond the deadline of the provider's body, and less than any other's.
const PATIENCE: Duration = Duration::from_secs(9);

/// Sends the head of a request, and the first byte of a body of 1,000.
fn dribble(url: &str, method: &str, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
         Content-Length: 1000\r\n{headers}\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// The status of an answer to a request whose body never comes.
fn status(mut stream: &TcpStream) -> u16 {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap()
}

/// Of the right shape and time, and nobody's.
fn signature(age: Duration) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - age;
    format!("X-Signature: t={},v1={}\r\n", at.as_secs(), "0".repeat(64))
}

/// All operations of the public API that read a body.
fn with_bodies(voucher: &str) -> Vec<(String, String)> {
    let document = openapi::public();
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if !operation["requestBody"].is_null() {
                let path = path.replace("{voucher_id}", voucher);
                found.push((method.to_uppercase(), path));
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_bodies_of_every_operation_take_no_place_from_anybody() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    rig.serve_with(&[
        ("ADMISSION_PAYMENTS_MAX", PLACES),
        ("ADMISSION_READS_MAX", PLACES),
        ("RATE_LIMIT_USER_PER_SECOND", "0"),
    ]);
    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let placed = rig.post(&orders, 1, Value::Null).await;
    assert_eq!(placed.0, 202, "{placed:?}");
    let order_id = placed.1["order_id"].as_str().unwrap().to_owned();
    rig.fold().await;

    let headers = format!(
        "Authorization: Bearer {}\r\n{}",
        rig.token(2),
        signature(Duration::ZERO)
    );
    let operations = with_bodies(&voucher.to_string());
    assert!(operations.len() >= 4, "{operations:?}");
    let mut slow = Vec::new();
    for (method, path) in &operations {
        let sockets = (0..SOCKETS).map(|_| dribble(&rig.service.url(), method, path, &headers));
        slow.extend(sockets);
    }
    let mut arriving = 0.0;
    eventually(
        "the bodies are on their way, or the places are taken",
        async || {
            arriving = rig.metric("seckill_bodies_arriving", "").await;
            let places = rig.metric("seckill_in_flight_requests", "payments").await;
            arriving >= (slow.len() / 2) as f64 || places >= 20.0
        },
    )
    .await;
    let order = format!("/api/v1/orders/{order_id}");
    assert_eq!(rig.get(&order, Some(1)).await.0, 200, "a read");
    assert_eq!(rig.pay(&order_id, "p-1", 999).await, 202, "a payment");
    let code = json!({ "email": "ada@example.com" });
    let answer = rig.post("/api/v1/sign-in/codes", 1, code).await;
    let says = answer.1["type"].as_str().unwrap_or_default();
    assert!(
        says.ends_with("/unavailable"),
        "there is no mail server: {answer:?}"
    );
    println!("{} slow bodies, {arriving} of them at once", slow.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_call_is_refused_before_its_body_and_a_signed_one_has_seconds() {
    let rig = Rig::start().await;
    let path = "/api/v1/payments/webhook";
    let begun = Instant::now();
    let call = |headers: &str| dribble(&rig.service.url(), "POST", path, headers);
    let stale = signature(Duration::from_secs(301));
    for headers in ["", "X-Signature: v1\r\n", "webhook-id: a\r\n", &stale] {
        assert_eq!(status(&call(headers)), 401, "{headers}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "it waited for bodies"
    );
    assert_eq!(status(&call(&signature(Duration::ZERO))), 408);
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_bodies_on_their_way() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    rig.serve_with(&[
        ("ADMISSION_BODIES_PER_ADDRESS", "30"),
        ("RATE_LIMIT_USER_PER_SECOND", "0"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ]);
    let path = format!("/api/v1/vouchers/{voucher}/orders");
    let headers = |address: &str| {
        format!(
            "Authorization: Bearer {}\r\nX-Forwarded-For: {address}\r\n",
            rig.token(2)
        )
    };
    let order = |address: &str| dribble(&rig.service.url(), "POST", &path, &headers(address));
    let slow: Vec<TcpStream> = (0..40).map(|_| order("203.0.113.5")).collect();
    eventually("ten are refused", async || {
        rig.metric("seckill_bodies_refused_total", "").await >= 10.0
    })
    .await;
    assert_eq!(rig.metric("seckill_bodies_refused_total", "").await, 10.0);
    let _another = order("203.0.113.6");
    eventually("another address may send its own", async || {
        rig.metric("seckill_bodies_arriving", "").await >= 31.0
    })
    .await;
    let prompt = rig.post(&path, 1, json!({ "quantity": 1 })).await;
    assert_eq!(prompt.0, 202, "{prompt:?}");
    drop(slow);
}
