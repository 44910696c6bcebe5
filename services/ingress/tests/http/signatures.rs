//! The provider's signatures over HTTP, while secrets change, and what is refused.

use std::time::{SystemTime, UNIX_EPOCH};

use seckill_credentials::signature;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{Rig, WEBHOOK_SECRET};

const NEXT_SECRET: &str = "the next webhook secret of the tests";
const NEXT_TOKEN_SECRET: &str = "the next token secret of the tests";

fn body(payment_id: &str) -> String {
    let order_id = "00000000-0700-8000-8000-040000000001";
    let paid = json!({
        "payment_id": payment_id, "order_id": order_id, "amount_cents": 999, "currency": "EUR",
        "paid_at": "2026-05-01T10:00:00Z",
    });
    paid.to_string()
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

async fn call(rig: &Rig, headers: &[(&str, String)], body: &str) -> u16 {
    let url = format!("{}/api/v1/payments/webhook", rig.service.url());
    let request = rig
        .http
        .post(url)
        .header("content-type", "application/json");
    let with_header = |request: reqwest::RequestBuilder, (name, value): &(&str, String)| {
        request.header(*name, value)
    };
    let request = headers.iter().fold(request, with_header);
    request
        .body(body.to_owned())
        .send()
        .await
        .unwrap()
        .status()
        .as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_secret_changes_both_are_good_in_either_form() {
    let mut rig = Rig::start().await;
    let token = rig.token(1);
    rig.serve_with(&[
        ("PAYMENT_WEBHOOK_SECRET", NEXT_SECRET),
        ("PAYMENT_WEBHOOK_SECRET_PREVIOUS", WEBHOOK_SECRET),
        ("TOKEN_SECRET", NEXT_TOKEN_SECRET),
        ("TOKEN_SECRET_PREVIOUS", crate::harness::TOKEN_SECRET),
    ]);
    for (secret, expected) in [(NEXT_SECRET, 202), (WEBHOOK_SECRET, 202), ("another", 401)] {
        let (id, seconds) = (format!("p-{expected}-{}", secret.len()), now());
        let body = body(&id);
        let own = signature::sign(secret, seconds, body.as_bytes());
        let several = format!("{own},v1={}", "0".repeat(64));
        assert_eq!(
            call(&rig, &[("x-signature", several)], &body).await,
            expected,
            "{secret}"
        );

        let official = Webhook::from_bytes(secret.into()).unwrap();
        let signature = official.sign(&id, seconds, body.as_bytes()).unwrap();
        let standard = [
            ("webhook-id", id.clone()),
            ("webhook-timestamp", seconds.to_string()),
            ("webhook-signature", signature),
        ];
        assert_eq!(call(&rig, &standard, &body).await, expected, "{secret}");
    }
    let with_old_token = rig.http.get(format!("{}/api/v1/orders", rig.service.url()));
    let answer = with_old_token.bearer_auth(token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    for secret in ["token", "payment-webhook"] {
        let used = rig
            .metric("seckill_previous_secret_uses_total", secret)
            .await;
        assert!(used > 0.0, "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unsigned_calls_are_counted_and_logged_once_a_minute() {
    let rig = Rig::start().await;
    for _ in 0..50 {
        assert_eq!(call(&rig, &[], "{}").await, 401);
    }
    let wrong = format!("t={},v1={}", now(), "0".repeat(64));
    assert_eq!(call(&rig, &[("x-signature", wrong)], "{}").await, 401);
    let counted = rig.metric("seckill_webhook_refused_total", "missing").await;
    assert_eq!(counted, 50.0);
    assert_eq!(
        rig.metric("seckill_webhook_refused_total", "wrong").await,
        1.0
    );
    let output = rig.service.output().unwrap();
    let lines: Vec<Value> = output
        .lines()
        .filter(|line| line.contains("payment webhook refused"))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
}
