//! The process as operators run it.
#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use harness::{ExpiryWorld, HOUR_US, PARTITIONS};
use seckill_testkit::http;
use seckill_testkit::ports::free_port;
use seckill_testkit::service::{Service, ServiceSpec, is_ready};
use seckill_testkit::wait::wait_for;

const PATIENCE: Duration = Duration::from_secs(30);

fn admin_address(service: &Service) -> SocketAddr {
    let url = service.admin_url();
    url.strip_prefix("http://").unwrap().parse().unwrap()
}

fn spec(world: &ExpiryWorld, partitions: i32) -> ServiceSpec {
    let admin_port = free_port().unwrap();
    let settings = [
        ("KAFKA_BROKERS", world.kafka.brokers.clone()),
        ("TOPIC_PREFIX", world.prefix.clone()),
        ("EVENT_PARTITIONS", partitions.to_string()),
        ("REDIS_URL", world.redis.url()),
        ("DATABASE_URL", world.database.url()),
        ("TIMEOUT_ADMIN_LISTEN", format!("127.0.0.1:{admin_port}")),
    ];
    ServiceSpec {
        binary: "seckill-timeout".to_owned(),
        env: settings.map(|(n, v)| (n.to_owned(), v)).into(),
        admin_port,
        port: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_expires_what_is_due_and_ends_in_order() {
    let world = ExpiryWorld::start().await;
    let orders = world.reserve(&[-HOUR_US, HOUR_US]).await;
    let mut service = Service::start(spec(&world, PARTITIONS)).unwrap();
    let expired = async {
        loop {
            let expired = world.expired().await;
            if !expired.is_empty() {
                return expired;
            }
        }
    };
    let expired = tokio::time::timeout(PATIENCE, expired).await.unwrap();
    assert_eq!(expired, orders[..1]);
    // The record is in the log a moment before its acknowledgement is counted.
    wait_for("the expiry in the metrics", PATIENCE, || {
        let (_, metrics) = http::get(admin_address(&service), "/metrics")?;
        let gauges = metrics.contains("seckill_clock_skew_seconds ")
            && metrics.contains("seckill_expiry_lag_seconds ");
        let counted = metrics.contains("seckill_expired_published_total 1\n");
        Ok((gauges && counted).then_some(()))
    })
    .unwrap();
    assert_eq!(service.stop().unwrap().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn its_health_is_asked_for_by_head_too_and_kept_by_nobody() {
    let world = ExpiryWorld::start().await;
    let service = Service::start(spec(&world, PARTITIONS)).unwrap();
    for path in ["/livez", "/readyz", "/metrics"] {
        let mut stream = TcpStream::connect(admin_address(&service)).unwrap();
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("cache-control: no-store\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_while_redis_does_not_tell_the_time() {
    let mut world = ExpiryWorld::start().await;
    let mut service = Service::start(spec(&world, PARTITIONS)).unwrap();
    let admin = admin_address(&service);
    world.redis.kill().unwrap();
    wait_for("a service that is not ready", PATIENCE, || {
        Ok((!is_ready(admin)).then_some(()))
    })
    .unwrap();
    world.redis.restart().unwrap();
    service.wait_until_ready().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_refuses_a_topic_with_another_number_of_partitions() {
    let world = ExpiryWorld::start().await;
    let mut service = Service::launch(spec(&world, PARTITIONS + 1)).unwrap();
    let status = service.wait_for_exit(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1));
    let output = service.output().unwrap();
    assert!(
        output.contains("has 4 partitions, and EVENT_PARTITIONS is 5"),
        "{output}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_names_every_setting_that_is_missing() {
    let world = ExpiryWorld::start().await;
    let mut spec = spec(&world, PARTITIONS);
    spec.env.remove("REDIS_URL");
    spec.env.remove("DATABASE_URL");
    let mut service = Service::launch(spec).unwrap();
    assert_eq!(service.wait_for_exit(PATIENCE).unwrap().code(), Some(2));
    let output = service.output().unwrap();
    assert!(
        output.contains("REDIS_URL") && output.contains("DATABASE_URL"),
        "{output}"
    );
}
