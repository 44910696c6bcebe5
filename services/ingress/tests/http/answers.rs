//! What clients, browsers and caches make of an answer beside its body: every route of both listeners.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use seckill_credentials::signature;
use seckill_domain::{UserId, VoucherId};
use seckill_ingress::buyers::revoked::Revoked;
use seckill_ingress::buyers::tokens::Tokens;
use seckill_service::settings::Secret;
use serde_json::Value;

use crate::harness::{ADMIN_TOKEN, Rig, TOKEN_SECRET, WEBHOOK_SECRET, eventually};
use crate::operations::{Answer, Operation, admin, ask, public};

/// What everybody may be told the same, and how long it is true.
const PUBLIC: [(&str, &str); 7] = [
    ("listVouchers", "public, max-age=1"),
    ("getVoucher", "public, max-age=1"),
    ("getDocument", "no-cache"),
    ("viewDocument", "no-cache"),
    ("getViewerFile", "no-cache"),
    // Where the version is not named: see pages/assets.rs.
    ("getAsset", "no-store"),
    ("getMetrics", "no-store"),
];

/// Of a buyer whose every request renews it: an answer that carries a token is nobody else's.
fn renewing_token() -> String {
    let (secret, life) = (Secret::new(TOKEN_SECRET), Duration::from_secs(600));
    let tokens = Tokens::new(&secret, None, life, Revoked::default());
    tokens.sign_in(UserId::new(1).unwrap()).unwrap().token
}

/// As nobody, and as whoever may.
fn callers() -> [String; 3] {
    let bearer = |token: &str| format!("Authorization: Bearer {token}");
    [
        String::new(),
        bearer(&renewing_token()),
        bearer(ADMIN_TOKEN),
    ]
}

/// Every operation, as every caller, on its listener.
async fn on_all(
    rig: &Rig,
    voucher: VoucherId,
    look: impl Fn(&str, &Operation, &str) -> Vec<String> + Send + 'static,
) -> Vec<String> {
    let listeners = [
        (rig.service.url(), public(voucher)),
        (rig.service.admin_url(), admin(voucher)),
    ];
    let found = tokio::task::spawn_blocking(move || {
        let mut found = Vec::new();
        for (url, operations) in &listeners {
            assert!(operations.len() > 12);
            for operation in operations {
                for caller in callers() {
                    found.extend(look(url, operation, &caller));
                }
            }
        }
        found
    });
    found.await.unwrap()
}

/// Without what is another one each time.
fn comparable(answer: &Answer, id: &str) -> Vec<String> {
    // What is counted grows, and a moment that ends in zeros is written without them.
    let other_length = ["getMetrics", "getOverview", "getSaleToken"].contains(&id);
    let varies = |line: &&str| {
        line.starts_with("date:")
            || line.starts_with("x-renewed-token:")
            || line.starts_with("traceresponse:")
            || (other_length && line.starts_with("content-length:"))
    };
    let lines = answer.head.lines().filter(|line| !varies(line));
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_answered_as_get_without_the_body() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let wrong = on_all(
        &rig,
        voucher,
        |url,
         Operation {
             id, method, path, ..
         },
         caller| {
            let head = ask(url, "HEAD", path, caller);
            let mut wrong = Vec::new();
            if !head.body.is_empty() {
                wrong.push(format!("{id} has a body"));
            }
            if method == "GET" {
                let get = comparable(&ask(url, "GET", path, caller), id);
                let head = comparable(&head, id);
                if head != get {
                    wrong.push(format!("{id}: HEAD {head:?}, GET {get:?}"));
                }
            } else if head.status == 405 {
                let allowed = head.header("allow").unwrap();
                let has_get = allowed.contains("get");
                if has_get != allowed.contains("head") {
                    wrong.push(format!("{id}: {allowed}"));
                }
            }
            wrong
        },
    );
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A stream has no end, and nobody to read it here.
#[tokio::test(flavor = "multi_thread")]
async fn head_of_a_stream_opens_none() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let orders = format!("/api/v1/vouchers/{voucher}/orders");
    let placed = rig.post(&orders, 1, Value::Null).await.1;
    let path = format!(
        "{}/api/v1/orders/{}/events",
        rig.service.url(),
        placed["order_id"].as_str().unwrap()
    );
    for _ in 0..20 {
        let head = rig.http.head(&path).bearer_auth(rig.token(1));
        let head = head.timeout(Duration::from_secs(10)).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers()["content-type"], "text/event-stream");
    }
    eventually("no stream to be open", async || {
        rig.metric("seckill_open_streams", "").await == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_but_what_is_public_and_nobody_guesses_what_it_is() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let wrong = on_all(
        &rig,
        voucher,
        |url,
         Operation {
             id, method, path, ..
         },
         caller| {
            let asked = [
                (method.as_str(), path.clone()),
                ("DELETE", path.clone()),
                ("GET", format!("{path}/nowhere")),
                ("GET", format!("{path}/")),
                ("GET", format!("{path}?limit=no-number")),
            ];
            let look = |(method, path): (&str, String)| {
                let answer = ask(url, method, &path, caller);
                let reply = wrong_of(&answer, id);
                reply.map(|what| format!("{method} {path}: {} {what}", answer.status))
            };
            asked.into_iter().filter_map(look).collect()
        },
    );
    let wrong = wrong.await;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

fn wrong_of(answer: &Answer, id: &str) -> Option<String> {
    let is_public = answer.status == 200 && !answer.head.contains("x-renewed-token:");
    let public = PUBLIC.iter().find(|(public, _)| is_public && *public == id);
    let expected = public.map_or("no-store", |(_, expected)| *expected);
    // A path under another one's may lead to a page, which is nobody's to keep.
    let kept = answer.header("cache-control");
    if kept != Some(expected) && kept != Some("no-store") {
        return Some(format!("cache-control: {kept:?}"));
    }
    if answer.header("x-content-type-options") != Some("nosniff") {
        return Some("may be guessed".to_owned());
    }
    let is_page = answer
        .header("content-type")
        .is_some_and(|kind| kind.starts_with("text/html"));
    let guards = [
        ("content-security-policy", "default-src 'none'"),
        ("content-security-policy", "frame-ancestors 'none'"),
        ("referrer-policy", "same-origin"),
    ];
    let mut guards = guards.into_iter();
    let missing = guards.find(|(name, part)| {
        is_page
            && !answer
                .header(name)
                .is_some_and(|value| value.contains(part))
    });
    missing.map(|(name, part)| format!("{name} lacks {part}"))
}

fn now_unix_seconds() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// What an operation says to a body, signed as the provider's would be, that claims to be in this coding.
fn say_of_coding(url: &str, operation: &Operation, caller: &str, coding: &str) -> Answer {
    let body = "{}";
    let signature = signature::sign(WEBHOOK_SECRET, now_unix_seconds(), body.as_bytes());
    let mut lines = vec![
        format!("X-Signature: {signature}"),
        "Content-Type: application/json".to_owned(),
        format!("Content-Encoding: {coding}"),
        format!("Content-Length: {}", body.len()),
    ];
    if !caller.is_empty() {
        lines.push(caller.to_owned());
    }
    let more = format!("{}\r\n\r\n{body}", lines.join("\r\n"));
    ask(url, &operation.method, &operation.path, &more)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_in_a_coding_that_is_not_read_is_415() {
    const CODED: [&str; 4] = [
        "gzip",
        "br",
        "identity, gzip",
        "identity\r\nContent-Encoding: zstd",
    ];
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let found = on_all(&rig, voucher, |url, operation, caller| {
        let mut found = Vec::new();
        let (id, codings) = (&operation.id, CODED.iter().chain(&["identity", "Identity"]));
        for coding in codings.filter(|_| operation.has_body) {
            let answer = say_of_coding(url, operation, caller, coding);
            match (answer.status, answer.header("accept-encoding")) {
                (415, Some("identity")) if CODED.contains(coding) => found.push(id.clone()),
                (415, _) => found.push(format!("{id}: {coding} is 415")),
                (401, _) => {}
                (status, _) if CODED.contains(coding) => {
                    found.push(format!("{id}: {coding} is {status}"));
                }
                _ => {}
            }
        }
        found
    });
    let found = BTreeSet::from_iter(found.await);
    let expected = [
        "adjustStock",
        "placeOrder",
        "recordPayment",
        "scheduleSale",
        "sendSignInCode",
        "signIn",
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_so_in_the_same_way() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    rig.serve_with(&[("ADMISSION_READS_MAX", "2")]);
    rig.redis.pause().unwrap();
    let url = format!("{}/api/v1/vouchers/{voucher}", rig.service.url());
    let overloaded = |answer: &reqwest::Response| {
        let keeps = &answer.headers()["cache-control"];
        let status = answer.status();
        assert!(status == 200 || keeps == "no-store", "{answer:?}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        status == 503
    };
    eventually("reads are refused", async || {
        let asked = (0..20).map(|_| rig.http.get(&url).send());
        let answers = join_all(asked).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        answers.iter().filter(|answer| overloaded(answer)).count() > 0
            && rig.metric("seckill_admission_refused_total", "reads").await > 0.0
    })
    .await;
    rig.redis.resume().unwrap();
}
