//! What happens to a connection, and what callers are told.

use std::time::{Duration, Instant};

use seckill_stock::{Attempt, Probe, ReserveOutcome, Stock, StockError, StockOptions};

use crate::harness::{Server, granted, options, outcomes, request, reserve_one, units, voucher};

#[tokio::test]
async fn callers_that_come_together_share_one_connection() {
    let server = Server::start();
    let mut raw = server.raw().await;
    let before = connections_received(&mut raw).await;
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let stock = server.stock.clone();
            tokio::spawn(async move { stock.now().await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(connections_received(&mut raw).await, before + 1);
}

async fn connections_received(raw: &mut redis::aio::MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO")
        .arg("stats")
        .query_async(raw)
        .await
        .unwrap();
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("total_connections_received:"));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_call_that_timed_out_is_asked_again_and_granted_once() {
    let mut server = Server::with_sale().await;
    let impatient = Stock::new(StockOptions {
        response_timeout: Duration::from_millis(200),
        ..options(&server.redis)
    })
    .unwrap();
    impatient.now().await.unwrap();
    server.redis.pause().unwrap();
    let lost = impatient
        .reserve(voucher(), &[request(1, 11)], &[], Attempt::First)
        .await;
    assert!(matches!(lost, Err(StockError::Timeout)), "{lost:?}");
    server.redis.resume().unwrap();
    // The call that was given up is carried out now, and this one answers for it.
    let outcome = reserve_one(&server.stock, &request(1, 11)).await;
    assert!(matches!(outcome, ReserveOutcome::Granted(_)));
    let again = impatient
        .reserve(voucher(), &[request(1, 11)], &[], Attempt::Again)
        .await;
    assert_eq!(outcomes(again), vec![outcome]);
    assert_eq!(units(&server.stock).await, (9, 1, 1));
}

#[tokio::test]
async fn a_demoted_master_is_unavailable_until_it_is_one_again() {
    let server = Server::with_sale().await;
    let mut raw = server.raw().await;
    let mut replica_of = async |target: [&str; 2]| {
        let done = redis::cmd("REPLICAOF")
            .arg(&target)
            .exec_async(&mut raw)
            .await;
        done.unwrap();
    };
    replica_of(["127.0.0.1", "1"]).await;
    for _ in 0..2 {
        // First by READONLY over the old connection, then because no new one is made.
        let refused = server
            .stock
            .reserve(voucher(), &[request(1, 11)], &[], Attempt::First)
            .await;
        assert!(
            matches!(refused, Err(StockError::Unavailable(_))),
            "{refused:?}"
        );
    }
    replica_of(["NO", "ONE"]).await;
    server.stock.now().await.unwrap();
}

#[tokio::test]
async fn a_refusal_for_the_fence_ends_the_connection_but_not_at_every_call() {
    let server = Server::with_sale().await;
    let mut raw = server.raw().await;
    let mut set = redis::cmd("HSET");
    set.arg(&["seckill:{7}:sale", "fence", "another"]);
    set.exec_async(&mut raw).await.unwrap();
    let before = connections_received(&mut raw).await;
    let started = Instant::now();
    let mut made = 0;
    while made < 3 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "the fence is not read anew"
        );
        for _ in 0..20 {
            let probe = server.stock.probe(voucher()).await.unwrap();
            assert!(matches!(probe, Probe::NotServed { epoch: Some(_) }));
        }
        made = connections_received(&mut raw).await - before;
    }
    // One may be old already when the first call is refused.
    let most = started.elapsed().as_millis() / 250 + 1;
    assert!(
        u128::from(made) <= most,
        "{made} connections where {most} would do"
    );
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_loaded_again() {
    let server = Server::with_sale().await;
    let mut raw = server.raw().await;
    redis::cmd("SCRIPT")
        .arg("FLUSH")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let forgotten = server.stock.probe(voucher()).await;
    assert!(matches!(forgotten, Err(StockError::Unavailable(_))));
    granted(&server.stock, &request(1, 11)).await;
}

#[tokio::test]
async fn a_server_that_evicts_is_refused() {
    let server = Server::start();
    server.stock.check_server().await.unwrap();
    let mut raw = server.raw().await;
    let mut set = redis::cmd("CONFIG");
    set.arg(&["SET", "maxmemory-policy", "allkeys-lru"]);
    set.exec_async(&mut raw).await.unwrap();
    let refused = server.stock.check_server().await;
    assert!(matches!(refused, Err(StockError::Misconfigured(_))));
}

#[tokio::test]
async fn an_address_that_is_none_or_where_nobody_is() {
    let refused = Stock::new(StockOptions::new("http://localhost"));
    assert!(matches!(refused, Err(StockError::Misconfigured(_))));
    let mut server = Server::start();
    server.redis.kill().unwrap();
    let refused = server.stock.now().await;
    assert!(matches!(refused, Err(StockError::Unavailable(_))));
}
