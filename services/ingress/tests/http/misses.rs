//! Reads that find nothing: they take nothing from what keeps the door shut, nor from each other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use seckill_testkit::postgres;

use crate::harness::{Rig, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_reads_leaves_connections_for_signing_out() {
    let mut rig = Rig::start().await;
    rig.scheduled_and_loaded(10).await;
    let database = rig.database.url();
    let lock = "BEGIN; LOCK TABLE vouchers IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)";
    let lock = tokio::task::spawn_blocking(move || postgres::query(&database, lock));
    eventually("reads hang", async || {
        rig.get("/api/v1/vouchers?limit=7&before=1", None).await.0 == 503
    })
    .await;

    let (enough, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let reader = async || {
        while !enough.load(Ordering::Relaxed) {
            let page = asked.fetch_add(1, Ordering::Relaxed) % 100 + 1;
            rig.get(&format!("/api/v1/vouchers?limit={page}&before=1"), None)
                .await;
        }
    };
    let signing_out = async {
        eventually("all connections are asked for", async || {
            asked.load(Ordering::Relaxed) >= 100
        })
        .await;
        let mut statuses = Vec::new();
        for user in 1..=5 {
            let url = format!("{}/api/v1/sign-out", rig.service.url());
            let out = rig.http.post(url).bearer_auth(rig.token(user)).send();
            statuses.push(out.await.unwrap().status().as_u16());
        }
        enough.store(true, Ordering::Relaxed);
        statuses
    };
    let readers = join_all((0..60).map(|_| reader()));
    let (statuses, _) = tokio::join!(signing_out, readers);
    assert_eq!(statuses, [204; 5]);
    assert!(!lock.is_finished(), "nothing hung any more");
    let sleeper = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event = 'PgSleep'";
    postgres::query(&rig.database.url(), sleeper).unwrap();
    lock.await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_for_a_sale_beyond_the_newest() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    let sale = format!("/api/v1/vouchers/{voucher}");
    assert_eq!(rig.get(&sale, None).await.0, 200);
    let asked = async || {
        let cards = rig
            .metric("seckill_cache_reads_total", "kind=\"card\"")
            .await;
        cards
            + rig
                .metric("seckill_cache_rebuilds_total", "kind=\"card\"")
                .await
    };
    let before = asked().await;
    for miss in 1..200_i64 {
        let id = voucher.get() + miss * 5_000_000_000;
        assert_eq!(
            rig.get(&format!("/api/v1/vouchers/{id}"), None).await.0,
            404
        );
        assert_eq!(rig.get(&format!("/sales/{id}"), None).await.0, 404);
    }
    assert_eq!(asked().await, before);
    let first = rig.get("/api/v1/vouchers", None).await;
    assert_eq!(
        rig.get("/api/v1/vouchers?before=1099511627775", None).await,
        first
    );
    assert_eq!(rig.get(&sale, None).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_that_have_to_be_read_are_admitted_and_others_are_not_asked() {
    let mut rig = Rig::start().await;
    let voucher = rig.scheduled_and_loaded(10).await;
    rig.serve_with(&[("ADMISSION_READS_MAX", "4")]);
    let (sale, api) = (
        format!("/sales/{voucher}"),
        format!("/api/v1/vouchers/{voucher}"),
    );
    assert_eq!(rig.get(&sale, None).await.0, 200);
    rig.redis.pause().unwrap();
    // What was remembered is too old after a second; until then it is answered.
    let refused = async || rig.metric("seckill_admission_refused_total", "pages").await;
    let mut pages = Vec::new();
    eventually("pages are refused", async || {
        let asked = join_all((0..40).map(|_| rig.get(&sale, None))).await;
        pages = asked.into_iter().map(|(status, _)| status).collect();
        pages.contains(&503)
    })
    .await;
    assert!(
        pages.iter().all(|status| [200, 503].contains(status)),
        "{pages:?}"
    );
    assert!(refused().await > 0.0);
    assert_eq!(rig.get("/sign-in", None).await.0, 200, "a page from memory");
    assert_eq!(
        rig.metric("seckill_admission_refused_total", "reads").await,
        0.0
    );
    rig.redis.resume().unwrap();
    eventually("it is served again", async || {
        rig.get(&api, None).await.0 == 200
    })
    .await;
    tokio::time::timeout(Duration::from_secs(30), rig.get(&sale, None))
        .await
        .unwrap();
}
