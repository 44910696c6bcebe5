//! The book that the log says there has to be, against the tables.

use std::collections::BTreeSet;

use crate::harness::{
    Log, PARTITION, Stand, TOPIC, adjusted, cancelled, log_from, logs, order_id, reserved,
};
use crate::harness::{runner, scheduled, user, voucher};
use proptest::prelude::*;
use seckill_domain::Offset;
use seckill_orderbook::{ExpectedBook, RowDifference};

fn expected(log: &Log) -> ExpectedBook {
    let mut book = ExpectedBook::default();
    for (offset, event) in log {
        book.fold(PARTITION, *offset, event);
    }
    book
}

/// What is in the tables and not in the book, or the other way round.
async fn differences(stand: &Stand, book: &ExpectedBook) -> Vec<RowDifference> {
    let mut actual = stand.book.book_snapshot(TOPIC).await.unwrap();
    let mut vouchers: BTreeSet<_> = book.vouchers().into_iter().collect();
    vouchers.extend(actual.vouchers().await.unwrap());
    let mut found = Vec::new();
    for voucher in vouchers {
        let rows = actual.rows(voucher).await.unwrap();
        found.extend(book.rows(voucher).differences(&rows));
    }
    found
}

#[test]
fn any_log_gives_the_same_rows_in_memory_and_in_the_tables() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    runner(30)
        .run(&logs(), |log| {
            let (book, again) = (expected(&log), log.iter().chain(&log).cloned().collect());
            let (found, position) = runtime.block_on(async {
                stand.clear().await;
                stand.apply(0, &log).await.unwrap();
                let snapshot = stand.book.book_snapshot(TOPIC).await.unwrap();
                let position = snapshot.position(PARTITION);
                drop(snapshot);
                (differences(&stand, &book).await, position)
            });
            prop_assert_eq!(found, []);
            prop_assert_eq!(position, book.position(PARTITION));
            let twice = expected(&again);
            for voucher in book.vouchers() {
                prop_assert_eq!(book.rows(voucher), twice.rows(voucher));
            }
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn a_sale_of_more_orders_than_a_page_is_read_whole_with_and_without_rests() {
    let stand = Stand::new().await;
    let v = voucher(1);
    for orders in [1_000, 1_001] {
        stand.clear().await;
        let mut bodies = vec![(v, scheduled(9_000))];
        bodies.extend((1..=orders).map(|n| {
            let id = order_id(v, n.try_into().unwrap());
            (v, reserved(id, user(n), 1))
        }));
        let log = log_from(0, bodies);
        stand.apply(0, &log).await.unwrap();
        let mut actual = stand.book.book_snapshot(TOPIC).await.unwrap();
        let rows = actual.rows(v).await.unwrap();
        assert_eq!(expected(&log).rows(v).differences(&rows), []);
        assert_eq!(actual.rows_with_rests(v).await.unwrap(), rows);
    }
}

#[tokio::test]
async fn a_changed_a_missing_and_an_invented_row_are_named() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let orders: Vec<_> = (1..=3).map(|n| order_id(v, n)).collect();
    let mut bodies = vec![(v, scheduled(9))];
    bodies.extend(
        orders
            .iter()
            .zip(1..)
            .map(|(id, n)| (v, reserved(*id, user(n), 1))),
    );
    let log = log_from(0, bodies);
    stand.apply(0, &log).await.unwrap();
    let book = expected(&log);
    assert_eq!(differences(&stand, &book).await, []);

    for sql in [
        format!(
            "UPDATE orders SET amount_cents = 1 WHERE order_id = '{}'",
            orders[0]
        ),
        format!("DELETE FROM orders WHERE order_id = '{}'", orders[1]),
        "UPDATE vouchers SET stock_left = stock_left + 1, unpaid_units = unpaid_units - 1"
            .to_owned(),
    ] {
        stand.execute(&sql).await.unwrap();
    }
    let found = differences(&stand, &book).await;
    let named: Vec<_> = found.iter().map(|d| (d.table, d.key.clone())).collect();
    assert_eq!(
        named,
        [
            ("vouchers", "1".to_owned()),
            ("orders", orders[0].to_string()),
            ("orders", orders[1].to_string())
        ]
    );
    assert_eq!(
        found[0].what,
        "available: 6, and not 7; unpaid: 3, and not 2"
    );
    assert!(found[1].what.starts_with("amount: "), "{}", found[1].what);
    assert_eq!(found[2].what, "the row is missing");
}

#[tokio::test]
async fn a_sale_is_quiet_for_buyers_of_whom_nothing_was_decided_since() {
    let stand = Stand::new().await;
    let (v, w) = (voucher(1), voucher(2));
    let orders: Vec<_> = (1..=3).map(|n| order_id(v, n)).collect();
    let log = log_from(
        0,
        [
            (v, scheduled(9)),
            (w, scheduled(9)),
            (v, reserved(orders[0], user(1), 1)),
            (v, reserved(orders[1], user(2), 1)),
            (v, cancelled(orders[0], user(1))),
            (w, reserved(order_id(w, 1), user(3), 1)),
            (v, reserved(orders[2], user(4), 1)),
        ],
    );
    stand.apply(0, &log).await.unwrap();
    let end = Offset::new(7);
    let quiet = async |buyer: i64, since: i64| {
        let (sale, since) = ((TOPIC, PARTITION, v), Offset::new(since));
        let answer = stand.book.quiet_until(sale, &[user(buyer)], since).await;
        answer.unwrap()
    };
    for (buyer, last) in [(1, 4), (2, 3), (4, 6)] {
        assert_eq!(quiet(buyer, last).await, None, "buyer {buyer}");
        assert_eq!(quiet(buyer, last + 1).await, Some(end), "buyer {buyer}");
    }
    assert_eq!(quiet(3, 0).await, Some(end), "ordered in another sale");

    let log = log_from(7, [(v, adjusted(1, None))]);
    stand.apply(7, &log).await.unwrap();
    assert_eq!(quiet(3, 7).await, None, "a shrink may be what is repaired");
    assert_eq!(quiet(3, 8).await, Some(Offset::new(8)));
}
