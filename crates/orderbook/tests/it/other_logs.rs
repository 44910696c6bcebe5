//! A log that is gone, and the tables that go on with another one.

use std::collections::BTreeMap;

use crate::harness::{
    ENTRY, Log, PARTITION, PRICE_CENTS, Stand, TOPIC, log_from, logs, order_id, paid, reserved,
    runner, scheduled, user, voucher,
};
use proptest::prelude::*;
use proptest::sample::Index;
use seckill_domain::{
    EventBody, Identity, LastRecord, LogBatch, LogRef, Offset, Order, OrderStatus, VoucherId,
    partition_of,
};
use seckill_orderbook::{AcceptLog, ApplyError, ExpectedBook, FoldPosition, Likeness, View};

fn at(number: i64) -> Offset {
    Offset::new(number)
}

fn end_of(log: &Log) -> Offset {
    log.last().map_or(at(0), |(last, _)| last.next())
}

async fn stands(stand: &Stand) -> FoldPosition {
    let found = stand
        .book
        .fold_positions(TOPIC, &[PARTITION])
        .await
        .unwrap();
    found[0].1
}

/// How much of `log` the tables have, as far as they stand.
async fn likeness(stand: &Stand, log: &Log) -> Likeness {
    let next = stands(stand).await.next;
    let below: Log = log.iter().filter(|(o, _)| *o < next).cloned().collect();
    let to = next.min(end_of(log)).max(end_of(&below));
    let batch = LogBatch::of_events(below, to);
    let found = stand.book.likeness(TOPIC, PARTITION, at(0), &batch).await;
    found.unwrap()
}

/// Carries the effects out and has the view accept another log from `from` on.
async fn accept(stand: &Stand, from: Offset) -> bool {
    let stands = stands(stand).await;
    let moved = stand
        .book
        .move_effects(TOPIC, PARTITION, stands.next, stands.log_number);
    moved.await.unwrap();
    let accept = AcceptLog {
        topic: TOPIC,
        partition: PARTITION,
        // Such that voucher 3, which is never put up, belongs here, too.
        partitions: (4..).find(|n| partition_of(b"3", *n) == PARTITION).unwrap(),
        stands,
        from,
        last: None,
    };
    stand.book.accept_log(&accept, ENTRY).await.unwrap()
}

/// A sale at 0, orders at 1 and 2, and the first of them paid at 3.
fn first_log() -> Log {
    let v = voucher(1);
    let order = |n| reserved(order_id(v, n), user(n.cast_signed()), 1);
    log_from(
        0,
        [
            (v, scheduled(5)),
            (v, order(1)),
            (v, order(2)),
            (v, paid(order_id(v, 1), "p1", PRICE_CENTS)),
        ],
    )
}

#[tokio::test]
async fn a_log_is_the_same_up_to_the_first_record_that_another_one_was_folded_for() {
    let stand = Stand::new().await;
    stand.apply(0, &first_log()).await.unwrap();
    let v = voucher(1);
    let whole = likeness(&stand, &first_log()).await;
    assert_eq!((whole.last_match, whole.differs_at), (Some(at(3)), None));

    let cut: Log = first_log()[..2].to_vec();
    let found = likeness(&stand, &cut).await;
    assert_eq!((found.last_match, found.differs_at), (Some(at(1)), None));

    // The order that was folded at 2 comes again, behind one that was never folded: that one is not lost.
    let other = [
        (v, reserved(order_id(v, 9), user(9), 1)),
        (v, reserved(order_id(v, 2), user(2), 1)),
    ];
    let other = [&first_log()[..1], &log_from(1, other)[..]].concat();
    let found = likeness(&stand, &other).await;
    assert_eq!(found.last_match, Some(at(0)));
    assert_eq!(found.differs_at, Some(at(1)));
}

#[tokio::test]
async fn a_payment_at_the_same_place_is_the_same_only_for_the_same_order_and_by_its_own_id() {
    let (v, other_sale) = (voucher(1), voucher(2));
    let honoured = (v, paid(order_id(v, 1), "p1", PRICE_CENTS));
    let due = (v, paid(order_id(v, 9), "p1", PRICE_CENTS));
    let others = [
        (v, paid(order_id(v, 1), "p2", PRICE_CENTS)),
        (v, paid(order_id(v, 2), "p1", PRICE_CENTS)),
        (other_sale, paid(order_id(other_sale, 1), "p1", PRICE_CENTS)),
    ];
    for folded in [honoured, due] {
        let stand = Stand::new().await;
        let up_to = |last: (VoucherId, EventBody)| {
            let before = &first_log()[..3];
            [before, &log_from(3, [last])[..]].concat()
        };
        stand.apply(0, &up_to(folded.clone())).await.unwrap();
        let same = likeness(&stand, &up_to(folded.clone())).await;
        assert_eq!((same.last_match, same.differs_at), (Some(at(3)), None));
        for other in &others {
            let found = likeness(&stand, &up_to(other.clone())).await;
            let expected = (Some(at(2)), Some(at(3)));
            let found = (found.last_match, found.differs_at);
            assert_eq!(found, expected, "{folded:?} against {other:?}");
        }
    }
}

#[tokio::test]
async fn what_is_read_of_a_log_that_was_given_up_moves_nothing() {
    let stand = Stand::new().await;
    stand.apply(0, &first_log()).await.unwrap();
    let v = voucher(1);
    let sleeper = stand
        .book
        .skip_decisions(TOPIC, PARTITION, at(4))
        .await
        .unwrap();
    assert!(accept(&stand, at(2)).await);
    // The other log comes to where the sleeper stood.
    let orders = [8, 9].map(|n| (v, reserved(order_id(v, n), user(n.cast_signed()), 1)));
    stand.apply(2, &log_from(2, orders)).await.unwrap();

    let batch = LogBatch::of_events(
        log_from(4, [(v, reserved(order_id(v, 4), user(4), 1))]),
        at(5),
    );
    let late = stand
        .book
        .apply(TOPIC, PARTITION, at(4), &batch, &sleeper)
        .await;
    assert!(matches!(late, Err(ApplyError::DecisionMissed)), "{late:?}");
    let effects = || async {
        let view = View::Effects;
        let found = stand.book.positions(TOPIC, &[PARTITION], view).await;
        found.unwrap()[0].1
    };
    stand
        .book
        .move_effects(TOPIC, PARTITION, at(4), 0)
        .await
        .unwrap();
    assert_eq!(effects().await, at(2), "of the log of before");
    stand
        .book
        .move_effects(TOPIC, PARTITION, at(4), 1)
        .await
        .unwrap();
    assert_eq!(effects().await, at(4));
}

#[tokio::test]
async fn nothing_is_accepted_before_what_was_decided_is_carried_out() {
    let stand = Stand::new().await;
    stand.apply(0, &first_log()).await.unwrap();
    let accept = AcceptLog {
        topic: TOPIC,
        partition: PARTITION,
        partitions: 4,
        stands: stands(&stand).await,
        from: at(0),
        last: None,
    };
    assert!(!stand.book.accept_log(&accept, ENTRY).await.unwrap());
    stand
        .book
        .move_effects(TOPIC, PARTITION, at(3), 0)
        .await
        .unwrap();
    assert!(!stand.book.accept_log(&accept, ENTRY).await.unwrap());
    stand
        .book
        .move_effects(TOPIC, PARTITION, at(4), 0)
        .await
        .unwrap();
    assert!(stand.book.accept_log(&accept, ENTRY).await.unwrap());
    let audit: i64 = sqlx::query_scalar("SELECT count(*) FROM ops_audit")
        .fetch_one(&stand.sql)
        .await
        .unwrap();
    assert_eq!(audit, 1);
}

#[tokio::test]
async fn a_record_by_which_the_log_is_recognised_stays_known() {
    let stand = Stand::new().await;
    stand.apply(0, &first_log()).await.unwrap();
    stand
        .book
        .move_effects(TOPIC, PARTITION, at(4), 0)
        .await
        .unwrap();
    let last = LastRecord {
        offset: at(1),
        identity: Identity::from_bytes([7; 16]),
    };
    let accept = AcceptLog {
        topic: TOPIC,
        partition: PARTITION,
        partitions: 4,
        stands: stands(&stand).await,
        from: at(2),
        last: Some(last),
    };
    assert!(stand.book.accept_log(&accept, ENTRY).await.unwrap());
    let expected = FoldPosition {
        next: at(2),
        last: Some(last),
        log_number: 1,
    };
    assert_eq!(stands(&stand).await, expected);
    let known = stand.book.accepted_logs(TOPIC).await.unwrap();
    let log = LogRef {
        number: 1,
        lost_offsets: 2,
    };
    assert_eq!(
        (known[0].log, known[0].from, known[0].stood_at),
        (log, at(2), at(4))
    );
}

/// The orders as they are now.
async fn orders(stand: &Stand) -> BTreeMap<String, Order> {
    let mut snapshot = stand.book.book_snapshot(TOPIC).await.unwrap();
    let mut found = BTreeMap::new();
    for voucher in snapshot.vouchers().await.unwrap() {
        let rows = snapshot.rows(voucher).await.unwrap().orders;
        found.extend(rows.into_iter().map(|o| (o.order_id.to_string(), o)));
    }
    found
}

/// The view goes from the log that it has folded to another one that begins as that does, as a command would.
async fn change_to(stand: &Stand, other: &Log) {
    let before = orders(stand).await;
    let from = likeness(stand, other)
        .await
        .last_match
        .map_or(at(0), Offset::next);
    assert!(accept(stand, from).await);
    let rest: Log = other.iter().filter(|(o, _)| *o >= from).cloned().collect();
    if !rest.is_empty() {
        stand.apply(from.get(), &rest).await.unwrap();
    }
    let after = orders(stand).await;
    for (id, order) in &before {
        let now = &after[id];
        let final_stays = order.status == now.status || order.status == OrderStatus::Unpaid;
        assert!(final_stays, "{order:?} became {now:?}");
    }
    let mut snapshot = stand.book.book_snapshot(TOPIC).await.unwrap();
    for (_, event) in other {
        let rows = snapshot.rows(event.voucher_id).await.unwrap();
        let known = match &event.body {
            EventBody::SeckillReserved(e) => rows.orders.iter().any(|o| o.order_id == e.order_id),
            EventBody::OrderPaid(e) => {
                let honoured = rows.orders.iter().filter_map(|o| o.payment_id.as_ref());
                let due = rows.refunds.iter().map(|refund| &refund.payment_id);
                honoured
                    .chain(due)
                    .filter(|id| **id == e.payment_id)
                    .count()
                    == 1
            }
            _ => true,
        };
        assert!(known, "lost: {event:?}");
    }
    let mut book = ExpectedBook::default();
    book.begin_at(PARTITION, from);
    let vouchers = snapshot.vouchers().await.unwrap();
    for voucher in &vouchers {
        let rows = snapshot.rows(*voucher).await.unwrap();
        book.take_over(*voucher, rows, from);
    }
    for (offset, event) in other {
        book.fold(PARTITION, *offset, event);
    }
    for voucher in vouchers {
        let rows = snapshot.rows(voucher).await.unwrap();
        assert_eq!(book.rows(voucher).differences(&rows), [], "from {from:?}");
    }
}

#[test]
fn no_order_is_lost_and_no_end_of_one_undone_whatever_the_other_log_is() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    let cuts = prop::collection::vec((logs(), any::<Index>()), 1..4);
    runner(40)
        .run(&(logs(), cuts), |(mut log, others)| {
            runtime.block_on(async {
                stand.clear().await;
                stand.execute("TRUNCATE accepted_logs").await.unwrap();
                // Of sales that are never put up only one can be given a partition by its number.
                log.splice(0..0, log_from(0, [(voucher(2), scheduled(5))]));
                stand.apply(0, &log).await.unwrap();
                for (other, cut) in others {
                    let cut = cut.index(log.len() + 1);
                    let behind = log.get(cut).map_or(end_of(&log), |(offset, _)| *offset);
                    let rest = other.into_iter().filter(|(offset, _)| *offset >= behind);
                    let other: Log = log[..cut].iter().cloned().chain(rest).collect();
                    change_to(&stand, &other).await;
                    log = other;
                }
            });
            Ok(())
        })
        .unwrap();
}
