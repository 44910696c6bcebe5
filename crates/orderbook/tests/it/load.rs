//! What Redis is loaded from, and the marks about it.

use std::collections::HashSet;
use std::time::Duration;

use crate::harness::{
    PARTITION, PRICE_CENTS, Stand, TOPIC, adjusted, cancelled, expired, key, log_from, options,
    order_id, paid, reloaded, reserved, scheduled, user, voucher, with_key,
};
use seckill_domain::{Epoch, EventBody, Offset, Order, OrderId, VoucherId};
use seckill_orderbook::{
    Leaving, LoadOrder, LoadSnapshot, Orderbook, OrderbookOptions, ServedSale,
};
use uuid::Uuid;

async fn snapshot(stand: &Stand, v: VoucherId) -> LoadSnapshot {
    stand.book.load_snapshot(TOPIC, v).await.unwrap().unwrap()
}

/// All orders that are to be loaded, in pages of `limit`.
async fn all_orders(snapshot: &mut LoadSnapshot, limit: usize) -> Vec<LoadOrder> {
    let mut orders = Vec::new();
    loop {
        let page = snapshot.next_orders(limit).await.unwrap();
        assert!(page.len() <= limit);
        if page.is_empty() {
            return orders;
        }
        orders.extend(page);
    }
}

/// Each buyer's order in Redis.
async fn holds(snapshot: &mut LoadSnapshot, limit: usize) -> Vec<Order> {
    let mut all = all_orders(snapshot, limit).await;
    all.retain(|load| !load.is_earlier);
    all.into_iter().map(|load| load.order).collect()
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
    let first_page = snapshot.next_orders(2).await.unwrap().into_iter();
    let mut held: Vec<Order> = first_page.map(|load| load.order).collect();
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
async fn every_key_of_a_buyer_is_loaded_with_the_order_that_answers_for_it() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let id = |n| order_id(v, n);
    let keyed = |n, buyer: i64, with: u8| with_key(reserved(id(n), user(buyer), 1), key(with));
    let log = log_from(
        0,
        [
            (v, scheduled(9)),
            // 1: three orders with keys of their own, the last one lives; the second has another without.
            (v, keyed(1, 1, 1)),
            (v, cancelled(id(1), user(1))),
            (v, keyed(2, 1, 2)),
            (v, cancelled(id(2), user(1))),
            (v, reserved(id(3), user(1), 1)),
            (v, cancelled(id(3), user(1))),
            (v, keyed(4, 1, 3)),
            // 2: its key was rejected first and granted then; with another key it has a live order.
            (v, keyed(5, 2, 4)),
            (v, keyed(6, 2, 1)),
            (v, cancelled(id(5), user(2))),
            (v, keyed(7, 2, 1)),
            (v, cancelled(id(7), user(2))),
            (v, keyed(8, 2, 5)),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    for limit in [1, 2, 500] {
        let loaded = all_orders(&mut snapshot(&stand, v).await, limit).await;
        let loaded: Vec<_> = loaded
            .iter()
            .map(|load| (load.order.order_id, load.is_earlier))
            .collect();
        let expected = [
            (4, false),
            (2, true),
            (1, true),
            (8, false),
            (7, true),
            (5, true),
        ];
        assert_eq!(
            loaded,
            expected.map(|(n, earlier)| (id(n), earlier)),
            "{limit}"
        );
    }
}

#[tokio::test]
async fn decided_shrinks_are_loaded_kept_and_refused_ones() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let events = [
        scheduled(3),
        adjusted(-2, None),
        adjusted(-9, None),
        adjusted(4, None),
    ];
    let log = log_from(0, events.map(|event| (v, event)));
    stand.apply(0, &log).await.unwrap();
    let mut units: Vec<i64> = snapshot(&stand, v)
        .await
        .decided_shrinks()
        .await
        .unwrap()
        .iter()
        .map(|(_, units)| *units)
        .collect();
    units.sort_unstable();
    assert_eq!(units, [2, 9]);
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
    assert!(snapshot.next_orders(1).await.is_err());
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
    sqlx::query("UPDATE vouchers SET closes_at = now() + interval '1 hour'")
        .execute(&stand.sql)
        .await
        .unwrap();
    let served = async || stand.book.sales_to_serve(&[PARTITION, 0]).await.unwrap();
    let summary = |s: &ServedSale| (s.voucher_id, s.loaded, s.over, s.unpaid_units);
    assert!(stand.book.sales_to_serve(&[0]).await.unwrap().is_empty());

    let (a, b) = tokio::join!(stand.book.mark_loaded(v), stand.book.mark_loaded(v));
    assert!(a.unwrap() ^ b.unwrap(), "exactly one is the first");
    assert!(!stand.book.mark_loaded(voucher(9)).await.unwrap());
    let two = (voucher(2), false, false, 0);
    let summaries: Vec<_> = served().await.iter().map(summary).collect();
    assert_eq!(summaries, [(v, true, false, 0), two]);

    let at = |position| leaving(v, position);
    let closed = [(v, reserved(id, user(1), 2)), (v, EventBody::SaleClosed)];
    assert!(!retired(&stand, &at(2)).await, "not closed");
    stand.apply(2, &log_from(2, closed)).await.unwrap();
    assert!(!retired(&stand, &at(4)).await, "has an unpaid order");
    let summaries: Vec<_> = served().await.iter().map(summary).collect();
    assert_eq!(summaries, [(v, true, true, 2), two]);

    stand
        .apply(4, &log_from(4, [(v, expired(id))]))
        .await
        .unwrap();
    assert!(
        !retired(&stand, &at(6)).await,
        "Redis knows more than PostgreSQL"
    );
    let epoch = Epoch::new(2);
    let later = Leaving { epoch, ..at(5) };
    assert!(!retired(&stand, &later).await, "Redis is of another epoch");
    assert!(retired(&stand, &at(5)).await);
    assert!(!retired(&stand, &at(5)).await, "again");
    assert_eq!(
        served().await.iter().map(summary).collect::<Vec<_>>(),
        [two]
    );
    let row = stand.book.sale(v).await.unwrap().unwrap();
    assert!(row.retired && row.loaded);
}

fn leaving(voucher_id: VoucherId, position: i64) -> Leaving {
    Leaving {
        voucher_id,
        epoch: Epoch::FIRST,
        position: Offset::new(position),
    }
}

/// What is asked before a sale leaves Redis, and what marks it, agree.
async fn retired(stand: &Stand, sale: &Leaving) -> bool {
    let may = stand.book.may_leave(TOPIC, sale).await.unwrap();
    let marked = stand.book.mark_retired(TOPIC, sale).await.unwrap();
    assert_eq!(may, marked);
    marked
}

#[tokio::test]
async fn a_sale_is_over_when_its_window_is_and_busy_around_it() {
    let stand = Stand::new().await;
    let v = voucher(1);
    stand
        .apply(0, &log_from(0, [(v, scheduled(2))]))
        .await
        .unwrap();
    for (opens, closes, over, busy) in [
        ("-1 hour", "1 hour", false, true),
        ("30 seconds", "1 hour", false, true),
        ("1 hour", "2 hours", false, false),
        ("-1 hour", "-30 seconds", true, true),
        ("-2 hours", "-1 hour", true, false),
    ] {
        let sql = format!(
            "UPDATE vouchers SET opens_at = now() + interval '{opens}', closes_at = now() + interval '{closes}'"
        );
        sqlx::query(&sql).execute(&stand.sql).await.unwrap();
        let served = stand.book.sales_to_serve(&[PARTITION]).await.unwrap();
        assert_eq!(
            (served[0].over, served[0].busy),
            (over, busy),
            "{opens} {closes}"
        );
        let may = stand.book.may_leave(TOPIC, &leaving(v, 1)).await.unwrap();
        assert_eq!(may, over, "{opens} {closes}");
    }
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
