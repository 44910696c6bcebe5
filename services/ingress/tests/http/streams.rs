//! Streams: so many, and no longer than their sessions.

use std::time::Duration;

use reqwest::Response;
use seckill_domain::UserId;
use seckill_ingress::buyers::tokens;
use seckill_service::settings::Secret;
use serde_json::Value;

use crate::harness::{Rig, TOKEN_SECRET, eventually};

/// Of one order, as [`seckill_ingress::orders::streams`] has it.
const OF_ORDER: usize = 5;

async fn open(rig: &Rig, order_id: &str, token: &str) -> Response {
    let url = format!("{}/api/v1/orders/{order_id}/events", rig.service.url());
    rig.http.get(url).bearer_auth(token).send().await.unwrap()
}

/// A rig, a pending order of user 1, and a token of theirs.
async fn with_an_order() -> (Rig, String, String) {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let placed = rig.post(&orders, 1, Value::Null).await;
    assert_eq!(placed.0, 202, "{placed:?}");
    let order_id = placed.1["order_id"].as_str().unwrap().to_owned();
    let token = rig.token(1);
    (rig, order_id, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buyer_has_so_many_streams_of_an_order_and_takes_none_of_another_buyer() {
    let (rig, order_id, token) = with_an_order().await;
    let stranger = rig.token(2);
    for _ in 0..2 * OF_ORDER {
        assert_eq!(open(&rig, &order_id, &stranger).await.status(), 404);
    }
    let mut mine = Vec::new();
    for _ in 0..OF_ORDER {
        let stream = open(&rig, &order_id, &token).await;
        assert_eq!(stream.status(), 200);
        mine.push(stream);
    }
    assert_eq!(
        rig.metric("seckill_open_streams", "").await,
        OF_ORDER as f64
    );
    let refused = open(&rig, &order_id, &token).await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    mine.pop();
    eventually("there is room for another", async || {
        open(&rig, &order_id, &token).await.status() == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_session() {
    let (rig, order_id, token) = with_an_order().await;
    let streams = [
        open(&rig, &order_id, &token).await,
        open(&rig, &order_id, &token).await,
    ];
    let (secret, user) = (Secret::new(TOKEN_SECRET), UserId::new(1).unwrap());
    let another = tokens::mint(&secret, user, Duration::from_secs(900)).unwrap();
    let others = open(&rig, &order_id, &another).await;
    let others = tokio::spawn(others.text());
    let out = format!("{}/api/v1/sign-out", rig.service.url());
    let out = rig.http.post(out).bearer_auth(&token).send().await.unwrap();
    assert_eq!(out.status(), 204);
    for stream in streams {
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.text()).await;
        let text = ended.expect("the session is over").unwrap();
        assert!(text.contains("pending"), "{text}");
    }
    assert!(!others.is_finished(), "another session's stream goes on");
    others.abort();
}
