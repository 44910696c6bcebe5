//! The fold into the tables: against the fold in memory, and against other projectors.

use crate::harness::expected::{fold, rows};
use crate::harness::{
    Log, PARTITION, PRICE_CENTS, Stand, TOPIC, adjusted, expired, log_from, logs, order_id, paid,
    reserved, runner, scheduled, user, voucher,
};
use proptest::prelude::*;
use seckill_domain::{Decision, Event, LogBatch, Offset, OrderStatus};
use seckill_orderbook::{ApplyError, View};

async fn position(stand: &Stand) -> i64 {
    let partitions = [PARTITION];
    let positions = stand.book.positions(TOPIC, &partitions, View::Orders);
    positions.await.unwrap()[0].1.get()
}

#[tokio::test]
async fn a_batch_moves_rows_and_position_together() {
    let stand = Stand::new().await;
    let (v, first) = (voucher(1), order_id(voucher(1), 1));
    let log = log_from(
        4,
        [
            (v, scheduled(5)),
            (v, reserved(first, user(1), 2)),
            (v, paid(first, "p1", 2 * PRICE_CENTS)),
        ],
    );
    assert_eq!(position(&stand).await, 0);

    // Offsets that belong to no record lie before the first event and behind the last.
    let batch = LogBatch::of_events(log.clone(), Offset::new(9));
    let applied = stand.apply_batch(0, &batch);

    assert_eq!(applied.await.unwrap().decisions, fold(&log).decisions);
    assert_eq!(position(&stand).await, 9);
    assert_eq!(rows(&stand.sql).await, fold(&log).rows());
}

/// As the rule has it, which decides within one sale.
#[tokio::test]
async fn an_adjustments_id_that_another_sale_has_used_stops_no_fold() {
    let stand = Stand::new().await;
    let (one, other) = (voucher(1), voucher(2));
    let mut log = log_from(
        0,
        [
            (one, scheduled(5)),
            (other, scheduled(5)),
            (one, adjusted(2, None)),
            (other, adjusted(3, None)),
        ],
    );
    log[3].1.event_id = log[2].1.event_id;
    let batch = LogBatch::of_events(log.clone(), Offset::new(4));
    stand.apply_batch(0, &batch).await.unwrap();
    assert_eq!(rows(&stand.sql).await, fold(&log).rows());
}

#[tokio::test]
async fn a_batch_without_records_moves_only_the_position() {
    let stand = Stand::new().await;
    for (from, to) in [(0, 3), (3, 7)] {
        let batch = LogBatch::ending_at(Offset::new(to));
        stand.apply_batch(from, &batch).await.unwrap();
    }
    assert_eq!(position(&stand).await, 7);
    assert!(rows(&stand.sql).await.is_empty());

    let others = stand
        .book
        .positions("another.topic", &[PARTITION, 0], View::Orders);
    let zero = Offset::new(0);
    assert_eq!(others.await.unwrap(), [(PARTITION, zero), (0, zero)]);
}

#[tokio::test]
async fn a_zombies_batch_fails_and_changes_nothing() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let log = log_from(
        0,
        [(v, scheduled(5)), (v, reserved(order_id(v, 1), user(1), 1))],
    );
    stand.apply(0, &log).await.unwrap();
    let before = rows(&stand.sql).await;

    let late = log_from(
        0,
        [(v, scheduled(9)), (v, reserved(order_id(v, 2), user(2), 1))],
    );
    let ahead = log_from(7, [(v, reserved(order_id(v, 3), user(3), 1))]);
    for (from, events) in [(0, &late), (1, &late), (7, &ahead)] {
        let refused = stand.apply(from, &events[usize::from(from == 1)..]).await;
        assert!(
            matches!(refused, Err(ApplyError::PositionMoved { actual }) if actual.get() == 2),
            "{refused:?}"
        );
    }
    assert_eq!(rows(&stand.sql).await, before);
    assert_eq!(position(&stand).await, 2);
}

#[tokio::test]
async fn of_two_projectors_with_the_same_batch_one_wins() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let sale = log_from(0, [(v, scheduled(50))]);
    for first in [0, 1] {
        // The first round also races for the row that holds the position.
        let log = if first == 0 {
            sale.clone()
        } else {
            log_from(
                1,
                (1..=40).map(|n| (v, reserved(order_id(v, n), user(n.cast_signed()), 1))),
            )
        };
        let (a, b) = tokio::join!(stand.apply(first, &log), stand.apply(first, &log));
        let to = first + i64::try_from(log.len()).unwrap();
        let lost = [&a, &b].into_iter().filter(
            |r| matches!(r, Err(ApplyError::PositionMoved { actual }) if actual.get() == to),
        );
        assert_eq!(lost.count(), 1, "{a:?} {b:?}");
        assert!(a.is_ok() || b.is_ok());
    }
    let sale = stand.book.sale(v).await.unwrap().unwrap().sale;
    assert_eq!((sale.available, sale.unpaid), (10, 40));
}

#[tokio::test]
async fn expired_and_ordered_again_within_one_batch_and_across_two() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let ids: Vec<_> = (1..=4).map(|n| order_id(v, n)).collect();
    let buyer = user(8);
    let log = log_from(
        0,
        [
            (v, scheduled(1)),
            (v, reserved(ids[0], buyer, 1)),
            (v, expired(ids[0])),
            (v, reserved(ids[1], buyer, 1)),
            // The second batch begins here: ids[1] is in the table, live.
            (v, expired(ids[1])),
            (v, reserved(ids[2], buyer, 1)),
            (v, expired(ids[2])),
            (v, reserved(ids[3], buyer, 1)),
        ],
    );
    stand.apply(0, &log[..4]).await.unwrap();
    stand.apply(4, &log[4..]).await.unwrap();

    let mut statuses = Vec::new();
    for id in ids {
        statuses.push(stand.book.order(id).await.unwrap().unwrap().status);
    }
    let gone = OrderStatus::Expired;
    assert_eq!(statuses, [gone, gone, gone, OrderStatus::Unpaid]);
    assert_eq!(rows(&stand.sql).await, fold(&log).rows());
}

#[tokio::test]
async fn data_that_no_column_can_hold_is_refused_and_changes_nothing() {
    let stand = Stand::new().await;
    let v = voucher(1);
    stand
        .apply(0, &log_from(0, [(v, scheduled(5))]))
        .await
        .unwrap();
    let before = rows(&stand.sql).await;

    let no_units = log_from(1, [(v, reserved(order_id(v, 1), user(1), 0))]);
    let negative = log_from(1, [(voucher(2), scheduled(-1))]);
    let strange = log_from(1, [(v, reserved(order_id(voucher(2), 1), user(1), 1))]);

    for (name, log, expected) in [
        ("no units", no_units, "23514"),
        ("negative stock", negative, "23514"),
        ("another voucher's order", strange, "22023"),
    ] {
        let result = stand.apply(1, &log).await;
        assert!(
            matches!(&result, Err(ApplyError::Refused { sqlstate, .. }) if sqlstate == expected),
            "{name}: {result:?}"
        );
    }
    assert_eq!(rows(&stand.sql).await, before);
    assert_eq!(position(&stand).await, 1);
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_not_refused() {
    let stand = Stand::new().await;
    stand.book.close().await;
    let result = stand
        .apply(0, &log_from(0, [(voucher(1), scheduled(5))]))
        .await;
    assert!(
        matches!(result, Err(ApplyError::Unavailable(_))),
        "{result:?}"
    );
}

/// Applies the log in batches of these sizes, over and over.
async fn apply_in_cuts(stand: &Stand, log: &Log, sizes: &[usize]) -> Vec<(Offset, Decision)> {
    let (mut from, mut rest, mut decisions) = (0, log.as_slice(), Vec::new());
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (batch, later) = rest.split_at((*size).min(rest.len()));
        decisions.extend(stand.apply(from, batch).await.unwrap().decisions);
        from = batch.last().unwrap().0.next().get();
        rest = later;
    }
    decisions
}

#[test]
fn any_log_in_any_batches_gives_the_rows_of_the_fold_in_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    let cuts = prop::collection::vec(1..40_usize, 1..6);
    runner(60)
        .run(&(logs(), cuts), |(log, sizes)| {
            let (decisions, actual) = runtime.block_on(async {
                stand.clear().await;
                let decisions = apply_in_cuts(&stand, &log, &sizes).await;
                (decisions, rows(&stand.sql).await)
            });
            let expected = fold(&log);
            prop_assert_eq!(decisions, expected.decisions.clone());
            prop_assert_eq!(actual, expected.rows());
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_log_in_which_every_record_comes_twice_gives_the_same_rows() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    let cuts = prop::collection::vec(1..40_usize, 1..6);
    runner(30)
        .run(&(logs(), cuts), |(log, sizes)| {
            let at = |offset: Offset, copy| Offset::new(2 * offset.get() + copy);
            let once: Log = log.iter().map(|(o, e)| (at(*o, 0), e.clone())).collect();
            let copies =
                |(o, e): &(Offset, Event)| [(at(*o, 0), e.clone()), (at(*o, 1), e.clone())];
            let twice: Log = log.iter().flat_map(copies).collect();
            let actual = runtime.block_on(async {
                stand.clear().await;
                apply_in_cuts(&stand, &twice, &sizes).await;
                rows(&stand.sql).await
            });
            prop_assert_eq!(actual, fold(&once).rows());
            Ok(())
        })
        .unwrap();
}

/// No statistics say how large the table is: a sale has just begun.
#[tokio::test]
async fn no_batch_reads_the_orders_that_it_does_not_name() {
    let stand = Stand::new().await;
    stand
        .execute("ALTER TABLE orders SET (autovacuum_enabled = false)")
        .await
        .unwrap();
    let v = voucher(1);
    stand
        .apply(0, &log_from(0, [(v, scheduled(2_000))]))
        .await
        .unwrap();
    let buyers: Vec<_> = (1..=2_000).map(|n| (order_id(v, n), n)).collect();
    let reserve = buyers
        .iter()
        .map(|(id, n)| reserved(*id, user(i64::try_from(*n).unwrap()), 1));
    let pay = buyers
        .iter()
        .map(|(id, n)| paid(*id, &format!("p{n}"), PRICE_CENTS));
    let bodies: Vec<_> = reserve.chain(pay).map(|body| (v, body)).collect();
    let log = log_from(1, bodies);
    for batch in log.chunks(100) {
        stand.apply(batch[0].0.get(), batch).await.unwrap();
    }

    // A server process has given its counts when it is gone.
    stand.book.close().await;
    let end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'orderbook-test'";
    stand.execute(end).await.unwrap();
    let counted =
        "SELECT n_tup_ins, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'orders'";
    let counts = sqlx::query_as::<_, (i64, i64)>(counted);
    let (rows, read) = counts.fetch_one(&stand.sql).await.unwrap();
    assert_eq!((rows, read), (2_000, 0), "rows inserted, rows scanned");
}
