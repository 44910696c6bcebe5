//! One budget for all instances, in Redis.

use std::time::{Duration, Instant};

use reqwest::StatusCode;
use seckill_testkit::service::Service;

use crate::harness::Rig;

/// Orders of one voucher a second, by all instances together.
const RATE: f64 = 40.0;
/// What an instance may admit on top: two blocks leased before, and one on credit.
const SLACK: f64 = 3.0 * 2.0;
const LASTING: Duration = Duration::from_secs(4);

fn start(rig: &Rig) -> Service {
    let mut spec = rig.spec();
    for (name, value) in [
        ("RATE_LIMIT_SHARED", "true".to_owned()),
        ("RATE_LIMIT_VOUCHER_PER_SECOND", RATE.to_string()),
        ("RATE_LIMIT_USER_PER_SECOND", "0".to_owned()),
    ] {
        spec.env.insert(name.to_owned(), value);
    }
    Service::start(spec).unwrap()
}

/// An order that is refused for its body once the limits let it through: no stock, no queue.
async fn is_let_through(rig: &Rig, service: &Service, token: &str) -> bool {
    let url = format!("{}/api/v1/vouchers/7/orders", service.url());
    let request = rig.http.post(url).bearer_auth(token).body("no JSON");
    let answer = request.send().await.unwrap();
    let limit = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
    let policy = answer.headers()["ratelimit-policy"].to_str().unwrap();
    assert_eq!(policy, format!("\"voucher\";q={RATE};w=1"));
    match answer.status() {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => true,
        StatusCode::TOO_MANY_REQUESTS => {
            assert!(limit.starts_with("\"voucher\";r=0;t="), "{limit}");
            assert!(answer.headers().contains_key("retry-after"));
            false
        }
        other => panic!("{other}"),
    }
}

/// How many of one instance's orders are let through until `end`, by several clients at a time.
async fn demand(rig: &Rig, service: &Service, end: Instant) -> usize {
    let token = rig.token(1);
    let client = async || {
        let mut through = 0;
        while Instant::now() < end {
            through += usize::from(is_let_through(rig, service, &token).await);
        }
        through
    };
    let (a, b, c) = tokio::join!(client(), client(), client());
    a + b + c
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_together_admit_what_one_may() {
    let rig = Rig::start().await;
    let services = [start(&rig), start(&rig)];
    let begun = Instant::now();
    let end = begun + LASTING;
    let [one, other] = &services;
    let (one, other) = tokio::join!(demand(&rig, one, end), demand(&rig, other, end));
    let seconds = begun.elapsed().as_secs_f64();
    let through = (one + other) as f64;
    println!("through={one}+{other} in {seconds:.2} s at {RATE} a second");
    let most = RATE * (seconds + 1.0) + 2.0 * SLACK;
    assert!(through <= most, "{through} of {most}");
    // Two buckets would have let nearly twice as many through.
    assert!(most < 2.0 * RATE * LASTING.as_secs_f64());
    let least = 0.8 * RATE * LASTING.as_secs_f64();
    assert!(through >= least, "{through} of {least}");
    assert!(one > 0 && other > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_instance_counts_for_itself() {
    let mut rig = Rig::start().await;
    let service = start(&rig);
    rig.redis.kill().unwrap();
    let begun = Instant::now();
    let through = demand(&rig, &service, begun + LASTING).await as f64;
    let most = RATE * (begun.elapsed().as_secs_f64() + 1.0) + SLACK;
    assert!(through <= most, "{through} of {most}");
    assert!(through >= 0.8 * RATE * LASTING.as_secs_f64(), "{through}");
    let metrics = format!("{}/metrics", service.admin_url());
    let metrics = rig.http.get(metrics).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counted = "seckill_rate_limit_fallbacks_total{policy=\"voucher\"}";
    assert!(metrics.contains(counted), "{metrics}");
}
