//! What Redis is loaded from, and the marks about it.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::collections::HashSet;
use std::time::Duration;

use common::{
    PARTITION, PRICE_CENTS, Stand, TOPIC, adjusted, cancelled, expired, key, log_from, options,
    order_id, paid, reloaded, reserved, scheduled, user, voucher, with_key,
};
use seckill_domain::{EventBody, Offset, Order, OrderId, VoucherId};
use seckill_orderbook::{LoadSnapshot, Orderbook, OrderbookOptions, ServedSale};
use uuid::Uuid;

async fn snapshot(stand: &Stand, v: VoucherId) -> LoadSnapshot {
    stand.book.load_snapshot(TOPIC, v).await.unwrap().unwrap()
}

/// All holds, in pages of `limit`.
async fn holds(snapshot: &mut LoadSnapshot, limit: usize) -> Vec<Order> {
    let mut holds = Vec::new();
    loop {
        let page = snapshot.next_holds(limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return holds;
        }
        holds.extend(page);
    }
}

fn ids(orders: &[Order]) -> Vec<OrderId> {
    orders.iter().map(|o| o.order_id).collect()
}

#[tokio::test]
async fn a_snapshot_is_one_position_while_batches_commit_in_between() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let id = |n| order_id(v, n);
    let mut first = vec![(v, scheduled(9))];
    first.extend((1..=4).map(|n| (v, reserved(id(n), user(n.cast_signed()), 1))));
    stand.apply(0, &log_from(0, first)).await.unwrap();

    let mut snapshot = snapshot(&stand, v).await;
    let mut held = snapshot.next_holds(2).await.unwrap();
    let second = [
        (v, expired(id(3))),
        (v, paid(id(4), "p4", PRICE_CENTS)),
        (v, reserved(id(5), user(5), 2)),
        (v, adjusted(4, None)),
    ];
    let adjustment = Uuid::from_u128(8);
    stand.apply(5, &log_from(5, second)).await.unwrap();
    held.extend(holds(&mut snapshot, 2).await);

    assert_eq!(ids(&held), [id(1), id(2), id(3), id(4)]);
    assert!(held.iter().all(|o| o.closed.is_none()), "{held:?}");
    assert_eq!(snapshot.position(), Offset::new(5));
    assert_eq!((snapshot.sale().available, snapshot.sale().unpaid), (5, 4));
    let asked = [id(1).as_uuid(), id(5).as_uuid(), adjustment];
    let known = snapshot.known(&asked).await.unwrap();
    assert_eq!(known, HashSet::from([id(1).as_uuid()]));
    drop(snapshot);

    let mut later = self::snapshot(&stand, v).await;
    assert_eq!(
        ids(&holds(&mut later, 500).await),
        (1..=5).map(id).collect::<Vec<_>>()
    );
    assert_eq!(later.position(), Offset::new(9));
    assert_eq!(later.known(&asked).await.unwrap(), HashSet::from(asked));
}

#[tokio::test]
async fn each_buyer_has_the_one_order_that_redis_needs() {
    let stand = Stand::new().await;
    let (v, other) = (voucher(1), voucher(2));
    let id = |n| order_id(v, n);
    let keyed = |n, buyer: i64| with_key(reserved(id(n), user(buyer), 1), key(1));
    let plain = |n, buyer: i64| reserved(id(n), user(buyer), 1);
    let log = log_from(
        0,
        [
            (v, scheduled(9)),
            (other, scheduled(9)),
            (other, reserved(order_id(other, 1), user(1), 1)),
            // 1: live without a key, before it released with one.
            (v, keyed(1, 1)),
            (v, expired(id(1))),
            (v, plain(2, 1)),
            // 2: released with a key, then without.
            (v, keyed(3, 2)),
            (v, cancelled(id(3), user(2))),
            (v, plain(4, 2)),
            (v, expired(id(4))),
            // 3: released twice, never with a key.
            (v, plain(5, 3)),
            (v, expired(id(5))),
            (v, plain(6, 3)),
            (v, expired(id(6))),
            // 4: paid, and rejected with a key.
            (v, plain(7, 4)),
            (v, paid(id(7), "p7", PRICE_CENTS)),
            (v, keyed(8, 4)),
            // 5: rejected only, with a key; 6: rejected only, without.
            (v, reloaded(1, 1)),
            (v, keyed(9, 5)),
            (v, plain(10, 6)),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    for limit in [1, 2, 500] {
        let held = holds(&mut snapshot(&stand, v).await, limit).await;
        assert_eq!(ids(&held), [id(2), id(3), id(6), id(7), id(9)]);
    }
}

#[tokio::test]
async fn a_sale_that_is_not_folded_has_no_snapshot() {
    let stand = Stand::new().await;
    let none = stand.book.load_snapshot(TOPIC, voucher(1)).await.unwrap();
    assert!(none.is_none());
}

#[tokio::test]
async fn a_client_that_stands_still_in_a_transaction_is_thrown_out() {
    let stand = Stand::new().await;
    let v = voucher(1);
    stand
        .apply(0, &log_from(0, [(v, scheduled(1))]))
        .await
        .unwrap();
    let impatient = Orderbook::connect(&OrderbookOptions {
        application_name: "standing-still".to_owned(),
        idle_transaction_timeout: Duration::from_millis(50),
        ..options(&stand.database)
    })
    .unwrap();
    let mut snapshot = impatient.load_snapshot(TOPIC, v).await.unwrap().unwrap();
    let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'standing-still'";
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while sqlx::query_scalar::<_, i64>(left)
        .fetch_one(&stand.sql)
        .await
        .unwrap()
        > 0
    {
        assert!(std::time::Instant::now() < deadline, "still connected");
        tokio::task::yield_now().await;
    }
    assert!(snapshot.next_holds(1).await.is_err());
}

#[tokio::test]
async fn a_sale_is_first_loaded_once_and_retired_when_it_is_over() {
    let stand = Stand::new().await;
    let (v, id) = (voucher(1), order_id(voucher(1), 1));
    stand
        .apply(
            0,
            &log_from(0, [(v, scheduled(2)), (voucher(2), scheduled(2))]),
        )
        .await
        .unwrap();
    let served = async || stand.book.sales_to_serve(&[PARTITION, 0]).await.unwrap();
    let summary = |s: &ServedSale| (s.voucher_id, s.loaded, s.closed, s.unpaid_units);
    assert!(stand.book.sales_to_serve(&[0]).await.unwrap().is_empty());

    let (a, b) = tokio::join!(stand.book.mark_loaded(v), stand.book.mark_loaded(v));
    assert!(a.unwrap() ^ b.unwrap(), "exactly one is the first");
    assert!(!stand.book.mark_loaded(voucher(9)).await.unwrap());
    let two = (voucher(2), false, false, 0);
    let summaries: Vec<_> = served().await.iter().map(summary).collect();
    assert_eq!(summaries, [(v, true, false, 0), two]);

    let closed = [(v, reserved(id, user(1), 2)), (v, EventBody::SaleClosed)];
    assert!(!stand.book.mark_retired(v).await.unwrap(), "not closed");
    stand.apply(2, &log_from(2, closed)).await.unwrap();
    assert!(
        !stand.book.mark_retired(v).await.unwrap(),
        "has an unpaid order"
    );
    let summaries: Vec<_> = served().await.iter().map(summary).collect();
    assert_eq!(summaries, [(v, true, true, 2), two]);

    stand
        .apply(4, &log_from(4, [(v, expired(id))]))
        .await
        .unwrap();
    assert!(stand.book.mark_retired(v).await.unwrap());
    assert!(!stand.book.mark_retired(v).await.unwrap(), "again");
    assert_eq!(
        served().await.iter().map(summary).collect::<Vec<_>>(),
        [two]
    );
    let row = stand.book.sale(v).await.unwrap().unwrap();
    assert!(row.retired && row.loaded);
}

#[tokio::test]
async fn a_rebuilt_database_still_knows_that_redis_had_the_sale() {
    let stand = Stand::new().await;
    let (v, w) = (voucher(1), voucher(2));
    let log = log_from(
        0,
        [
            (v, scheduled(2)),
            (w, scheduled(2)),
            (v, reserved(order_id(v, 1), user(1), 1)),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    assert!(!stand.book.mark_loaded(v).await.unwrap());
    assert!(stand.book.mark_loaded(w).await.unwrap());
}

#[tokio::test]
async fn a_reloads_verdict_is_known_once_it_is_folded() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let verdict = async |nonce| {
        let nonce = Uuid::from_u128(nonce);
        stand.book.reload_verdict(v, nonce).await.unwrap()
    };
    assert_eq!(verdict(1).await, None);
    let log = log_from(
        0,
        [(v, scheduled(2)), (v, reloaded(1, 1)), (v, reloaded(1, 2))],
    );
    stand.apply(0, &log).await.unwrap();
    assert_eq!(
        [verdict(1).await, verdict(2).await],
        [Some(true), Some(false)]
    );
    assert_eq!(verdict(3).await, None);
}
