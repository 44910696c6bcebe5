//! A master that sentinels name, and the masters of a Cluster.

use std::time::{Duration, Instant};

use seckill_domain::{Epoch, Offset, Sale, VoucherId};
use seckill_stock::{Attempt, Probe, ReserveReply, Stock, StockError, StockOptions};
use seckill_testkit::{RedisCluster, Sentinels};

use crate::harness::{event, load, request, sale, user};

fn stock_at(url: String) -> Stock {
    Stock::new(StockOptions {
        // A loaded test machine must not look like a lost server.
        response_timeout: Duration::from_secs(10),
        ..StockOptions::new(url)
    })
    .unwrap()
}

async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn voucher(id: i64) -> VoucherId {
    VoucherId::new(id).unwrap()
}

fn key(id: i64, part: &str) -> String {
    format!("seckill:{{{id}}}:{part}")
}

/// One unit for a user; the number is the order's.
async fn reserve(stock: &Stock, id: i64, number: u64) -> Result<ReserveReply, StockError> {
    let mut request = request(number, 1);
    request.event_id = event(u128::from(number));
    request.user_id = user(i64::try_from(number).unwrap());
    stock
        .reserve(voucher(id), &[request], &[], Attempt::First)
        .await
}

#[tokio::test]
async fn a_failover_is_followed_and_closes_what_was_loaded_before_it() {
    let redis = Sentinels::start(10).unwrap();
    let stock = stock_at(redis.url());
    stock.check_server().await.unwrap();
    load(&stock, &sale(10), Offset::new(1)).await;
    let granted = reserve(&stock, 7, 1).await.unwrap();
    assert!(
        matches!(granted, ReserveReply::Decided { .. }),
        "{granted:?}"
    );
    let before = stock.connection_for(voucher(7)).await.unwrap();
    // The lag, once a second for the count of replicas, and a second of silence.
    let cut_off_after = before.cut_off_after().await.unwrap();
    assert_eq!(cut_off_after, Duration::from_secs(12));

    redis.fail_over().unwrap();
    eventually("the sale is not served because of its fence", async || {
        let survey = stock.survey(&[voucher(7)]).await;
        let not_served = Probe::NotServed {
            epoch: Some(Epoch::FIRST),
        };
        survey.failure.is_none()
            && matches!(&survey.probes[..], [Ok(probe)] if *probe == not_served)
    })
    .await;
    assert_ne!(redis.master().unwrap(), Some(0));
    let after = stock.connection_for(voucher(7)).await.unwrap();
    assert_ne!(after.fence(), before.fence());
    // Run id, replication id, and how many failovers there have been.
    assert!(before.fence().as_str().ends_with(":0"), "{before:?}");
    assert!(!after.fence().as_str().ends_with(":0"), "{after:?}");
    let reply = reserve(&stock, 7, 2).await.unwrap();
    assert_eq!(reply, ReserveReply::NotServed);
}

/// Its server may have been stopped, or cut off, and not know that it was replaced.
#[tokio::test]
async fn a_silent_connection_is_not_used_before_asking_who_is_master() {
    let redis = Sentinels::start(10).unwrap();
    let stock = stock_at(redis.url());
    load(&stock, &sale(10), Offset::new(1)).await;
    let granted = reserve(&stock, 7, 1).await.unwrap();
    assert!(
        matches!(granted, ReserveReply::Decided { .. }),
        "{granted:?}"
    );

    redis.wire(0).cut();
    eventually("a replica is promoted", async || {
        redis.master().unwrap().is_some_and(|number| number != 0)
    })
    .await;
    // The old connection is open, and over it there would be no answer.
    let reply = reserve(&stock, 7, 2).await.unwrap();
    assert_eq!(reply, ReserveReply::NotServed);
}

#[tokio::test]
async fn a_name_that_the_sentinels_do_not_know_is_a_mistake() {
    let redis = Sentinels::start(10).unwrap();
    let stock = stock_at(redis.url() + "s");
    let refused = stock.check_server().await;
    assert!(
        matches!(refused, Err(StockError::Misconfigured(_))),
        "{refused:?}"
    );
}

/// Voucher 7 has slot 1716, of the first master; 8 has slot 14171, of the third.
#[tokio::test]
async fn a_sale_is_where_its_slot_is_and_is_loaded_again_where_it_moves() {
    let redis = RedisCluster::start(2_000).unwrap();
    let stock = stock_at(redis.url());
    stock.check_server().await.unwrap();
    assert_eq!(stock.clocks().await.unwrap().len(), 3);
    let of = |id| Sale {
        voucher_id: voucher(id),
        ..sale(10)
    };
    load(&stock, &of(7), Offset::new(1)).await;
    load(&stock, &of(8), Offset::new(1)).await;
    let (owner, slot) = redis.first_owner(&key(7, "sale")).unwrap();
    assert_eq!((owner, slot), (0, 1_716));
    assert_eq!(redis.node(0).cli(&["DBSIZE"]).unwrap(), "3");
    assert_eq!(redis.node(2).cli(&["DBSIZE"]).unwrap(), "3");

    redis.move_begins(slot, 0, 1).unwrap();
    let granted = reserve(&stock, 7, 1).await.unwrap();
    assert!(
        matches!(granted, ReserveReply::Decided { .. }),
        "nothing has moved yet"
    );
    redis.move_keys(&[&key(7, "holds")], 0, 1).unwrap();
    let refused = reserve(&stock, 7, 2).await;
    assert!(
        matches!(refused, Err(StockError::Unavailable(_))),
        "{refused:?}"
    );
    // It says nothing of other sales.
    let survey = stock.survey(&[voucher(7), voucher(8)]).await;
    assert!(survey.failure.is_none(), "{survey:?}");
    let open = |probe: &Result<Probe, _>| matches!(probe, Ok(Probe::Open(_)));
    assert!(
        survey.probes[0].is_err() && open(&survey.probes[1]),
        "{survey:?}"
    );

    redis
        .move_keys(&[&key(7, "sale"), &key(7, "outbox")], 0, 1)
        .unwrap();
    redis.move_ends(slot, 0, 1).unwrap();
    eventually(
        "the new master says that the sale is another's",
        async || {
            let probe = stock.probe(voucher(7)).await;
            matches!(
                probe,
                Ok(Probe::NotServed {
                    epoch: Some(Epoch::FIRST)
                })
            )
        },
    )
    .await;
    let new = Sale {
        epoch: Epoch::FIRST.next(),
        ..of(7)
    };
    load(&stock, &new, Offset::new(5)).await;
    let survey = stock.survey(&[voucher(7), voucher(8)]).await;
    assert!(survey.probes.iter().all(open), "{survey:?}");
    assert_eq!(redis.node(0).cli(&["DBSIZE"]).unwrap(), "0");
}
