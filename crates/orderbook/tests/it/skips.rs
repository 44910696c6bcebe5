//! Records that the fold passes over, and the log that it belongs to.

use crate::harness::expected::{fold, rows};
use crate::harness::{
    ENTRY, PARTITION, Stand, TOPIC, log_from, order_id, reserved, scheduled, user, voucher,
};
use seckill_domain::{
    Actor, EventId, Identity, LastRecord, LogBatch, Offset, Reason, RecordSkipped,
};
use seckill_orderbook::{ApplyError, FoldPosition, SkipBegun, SkipDecisions, SkipFate, cause_of};
use uuid::Uuid;

fn at(number: i64) -> Offset {
    Offset::new(number)
}

fn skip(offset: i64) -> RecordSkipped {
    RecordSkipped {
        partition: PARTITION,
        offset: at(offset),
        reason: Reason::new("written by mistake").unwrap(),
        actor: Actor::new("ops").unwrap(),
    }
}

fn id(number: u128) -> EventId {
    EventId::from_uuid(Uuid::from_u128(number))
}

/// A sale at 0, an order at 1, a record of an unknown schema at 2, an order at 3.
fn with_unknown() -> LogBatch {
    let v = voucher(1);
    let mut events = log_from(
        0,
        [(v, scheduled(5)), (v, reserved(order_id(v, 1), user(1), 1))],
    );
    events.extend(log_from(3, [(v, reserved(order_id(v, 3), user(3), 1))]));
    LogBatch {
        events,
        unknown: vec![(at(2), "unknown schema".to_owned())],
        ..LogBatch::ending_at(at(4))
    }
}

#[tokio::test]
async fn a_malformed_record_is_noted_with_the_move_past_it_or_not_at_all() {
    let stand = Stand::new().await;
    let batch = LogBatch {
        malformed: vec![
            (at(1), "no payload".to_owned()),
            (at(2), "too short".to_owned()),
        ],
        ..LogBatch::ending_at(at(3))
    };
    stand.apply_batch(0, &batch).await.unwrap();
    let noted = stand.book.skipped_records(TOPIC).await.unwrap();
    let noted: Vec<_> = noted
        .iter()
        .map(|r| (r.offset.get(), r.cause.as_str()))
        .collect();
    assert_eq!(noted, [(1, "no payload"), (2, "too short")]);
    let page = stand
        .book
        .effects_page(TOPIC, PARTITION, at(0), 1)
        .await
        .unwrap();
    assert_eq!(
        (page.skipped.len(), page.to),
        (1, at(2)),
        "the page is cut off"
    );

    // A zombie's batch fails, and so does what it would note.
    let late = LogBatch {
        malformed: vec![(at(0), "from a zombie".to_owned())],
        ..LogBatch::ending_at(at(1))
    };
    let refused = stand.apply_batch(0, &late).await;
    assert!(
        matches!(refused, Err(ApplyError::PositionMoved { .. })),
        "{refused:?}"
    );
    assert_eq!(stand.book.skipped_records(TOPIC).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_record_that_is_not_known_yet_stops_the_fold_until_the_decision_is_in_the_log() {
    let stand = Stand::new().await;
    let batch = with_unknown();
    let refused = stand.apply_batch(0, &batch).await;
    assert!(
        matches!(refused, Err(ApplyError::NotKnownYet { offset, .. }) if offset == at(2)),
        "{refused:?}"
    );
    let (first, second) = batch.split(at(2));
    stand.apply_batch(0, &first).await.unwrap();

    let book = &stand.book;
    let cause = cause_of(&skip(2));
    let begun = book
        .begin_skip(TOPIC, PARTITION, at(2), id(7), &cause)
        .await;
    assert_eq!(begun.unwrap(), SkipBegun::Noted(id(7)));
    // Its command dies here, and is repeated: the same event goes into the log.
    let again = book
        .begin_skip(TOPIC, PARTITION, at(2), id(8), &cause)
        .await;
    assert_eq!(again.unwrap(), SkipBegun::Noted(id(7)));
    let waits = stand.apply_batch(2, &second).await;
    assert!(
        matches!(waits, Err(ApplyError::SkipPending { offset }) if offset == at(2)),
        "{waits:?}"
    );

    book.finish_skip(TOPIC, PARTITION, at(2), ENTRY)
        .await
        .unwrap();
    stand.apply_batch(2, &second).await.unwrap();
    let mut all = first.events.clone();
    all.extend(second.events.clone());
    assert_eq!(rows(&stand.sql).await, fold(&all).rows());
    let done = book
        .begin_skip(TOPIC, PARTITION, at(2), id(9), &cause)
        .await;
    assert_eq!(done.unwrap(), SkipBegun::Done);
    let page = book
        .effects_page(TOPIC, PARTITION, at(0), 100)
        .await
        .unwrap();
    assert_eq!(page.skipped.len(), 1, "it becomes a dead letter");
}

/// A newer projector can read the record that an operator decided about while the old one stood still.
#[tokio::test]
async fn a_decision_holds_for_a_version_that_can_read_the_record() {
    let stand = Stand::new().await;
    let v = voucher(1);
    let log = log_from(
        0,
        [
            (v, scheduled(5)),
            (v, reserved(order_id(v, 1), user(1), 1)),
            (v, reserved(order_id(v, 2), user(2), 1)),
        ],
    );
    let batch = |events: &[_], to| LogBatch::of_events(events.to_vec(), at(to));
    stand.apply_batch(0, &batch(&log[..1], 1)).await.unwrap();
    let book = &stand.book;
    // It has asked before the decision was made.
    let before = book.skip_decisions(TOPIC, PARTITION, at(1)).await.unwrap();
    let begun = book.begin_skip(TOPIC, PARTITION, at(1), id(7), "x").await;
    assert_eq!(begun.unwrap(), SkipBegun::Noted(id(7)));
    let rest = batch(&log[1..], 3);
    let missed = book.apply(TOPIC, PARTITION, at(1), &rest, &before).await;
    assert!(
        matches!(missed, Err(ApplyError::DecisionMissed)),
        "{missed:?}"
    );
    let pending = stand.apply_batch(1, &rest).await;
    assert!(
        matches!(pending, Err(ApplyError::SkipPending { .. })),
        "{pending:?}"
    );

    book.finish_skip(TOPIC, PARTITION, at(1), ENTRY)
        .await
        .unwrap();
    stand.apply_batch(1, &rest).await.unwrap();
    let without = [log[0].clone(), log[2].clone()];
    assert_eq!(rows(&stand.sql).await, fold(&without).rows());
}

#[tokio::test]
async fn what_the_fold_has_passed_cannot_be_decided_about_any_more() {
    let stand = Stand::new().await;
    let (first, _) = with_unknown().split(at(2));
    stand.apply_batch(0, &first).await.unwrap();
    let book = &stand.book;
    let late = book.begin_skip(TOPIC, PARTITION, at(1), id(7), "x").await;
    assert_eq!(late.unwrap(), SkipBegun::Passed(at(2)));
    assert!(book.skipped_records(TOPIC).await.unwrap().is_empty());
}

/// PostgreSQL was restored, or is empty: the decisions are in the log.
#[tokio::test]
async fn decisions_that_are_found_in_the_log_are_kept_only_about_what_is_ahead() {
    let stand = Stand::new().await;
    let (first, second) = with_unknown().split(at(2));
    stand.apply_batch(0, &first).await.unwrap();
    let found = [(id(1), skip(0)), (id(2), skip(2))];
    let book = &stand.book;
    book.note_skips_ahead(TOPIC, PARTITION, &found)
        .await
        .unwrap();
    book.note_skips_ahead(TOPIC, PARTITION, &found)
        .await
        .unwrap();
    stand.apply_batch(2, &second).await.unwrap();
    let mut snapshot = book.book_snapshot(TOPIC).await.unwrap();
    let decided = snapshot.decided_skips(TOPIC).await.unwrap();
    drop(snapshot);
    assert_eq!(
        decided.into_iter().collect::<Vec<_>>(),
        [(PARTITION, at(2))]
    );

    let gone = [(PARTITION, at(2))];
    book.note_fate(TOPIC, &gone, SkipFate::Discarded, ENTRY)
        .await
        .unwrap();
    book.note_fate(TOPIC, &gone, SkipFate::Redriven, ENTRY)
        .await
        .unwrap();
    let noted = book.skipped_records(TOPIC).await.unwrap();
    assert_eq!(
        noted[0].fate,
        Some(SkipFate::Discarded),
        "what was done first stays"
    );
}

#[tokio::test]
async fn the_view_remembers_the_last_record_that_it_took() {
    let stand = Stand::new().await;
    let of = |position: &[(i32, FoldPosition)]| position[0].1;
    let read = || stand.book.fold_positions(TOPIC, &[PARTITION]);
    assert_eq!(of(&read().await.unwrap()).last, None);
    let last = |offset, byte| LastRecord {
        offset: at(offset),
        identity: Identity::from_bytes([byte; 16]),
    };
    let batch = |to, last| LogBatch {
        last,
        ..LogBatch::ending_at(at(to))
    };
    stand
        .apply_batch(0, &batch(3, Some(last(2, 7))))
        .await
        .unwrap();
    let first = FoldPosition {
        next: at(3),
        last: Some(last(2, 7)),
        log_number: 0,
    };
    assert_eq!(of(&read().await.unwrap()), first);
    // The first part of a batch that was split does not end with its last record.
    stand.apply_batch(3, &batch(5, None)).await.unwrap();
    let then = FoldPosition {
        next: at(5),
        ..first
    };
    assert_eq!(of(&read().await.unwrap()), then);
    stand
        .apply_batch(5, &batch(9, Some(last(8, 9))))
        .await
        .unwrap();
    assert_eq!(of(&read().await.unwrap()).last, Some(last(8, 9)));
}

#[tokio::test]
async fn a_fold_that_knows_of_no_decisions_starts_where_nothing_was_folded() {
    let stand = Stand::new().await;
    let nothing = SkipDecisions::default();
    let batch = LogBatch::ending_at(at(2));
    let applied = stand
        .book
        .apply(TOPIC, PARTITION, at(0), &batch, &nothing)
        .await;
    assert!(applied.is_ok(), "{applied:?}");
}
