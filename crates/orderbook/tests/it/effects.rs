//! Effects from rows: against those of the fold in memory, in pages of any size.

use crate::harness::expected::fold;
use crate::harness::{
    PARTITION, Stand, TOPIC, expired, log_from, logs, order_id, reserved, runner, scheduled, user,
    voucher,
};
use proptest::prelude::*;
use seckill_domain::{Effect, Offset, VoucherId};
use seckill_orderbook::View;

/// All effects from `from` on, in pages of `limit`, of one voucher or of all, and where they end.
async fn paged(
    stand: &Stand,
    voucher: Option<VoucherId>,
    from: Offset,
    to: Option<Offset>,
    limit: usize,
) -> (Vec<Effect>, Offset) {
    let book = &stand.book;
    let (mut position, mut effects) = (from, Vec::new());
    loop {
        let page = match voucher {
            Some(v) => {
                book.effects_of_voucher(TOPIC, PARTITION, v, position, to, limit)
                    .await
            }
            None => book.effects_page(TOPIC, PARTITION, position, limit).await,
        };
        let page = page.unwrap();
        assert!(page.effects.len() <= limit);
        assert!(page.effects.iter().all(|e| e.offset < page.to));
        if page.to == position {
            return (effects, position);
        }
        position = page.to;
        effects.extend(page.effects);
    }
}

#[test]
fn pages_of_any_size_are_the_effects_of_the_fold_in_memory() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    let start = any::<prop::sample::Index>();
    runner(40)
        .run(&(logs(), 1..30_usize, start), |(log, limit, start)| {
            let end = log.last().unwrap().0.next();
            let from = Offset::new(start.index(log.len() * 2).try_into().unwrap()).min(end);
            let expected = fold(&log).effects();
            let (all, part) = runtime.block_on(async {
                stand.clear().await;
                stand.apply(0, &log).await.unwrap();
                let zero = Offset::new(0);
                let all = paged(&stand, None, zero, None, limit).await;
                (all, paged(&stand, None, from, None, limit).await)
            });
            prop_assert_eq!(&all, &(expected.clone(), end));
            let behind = expected.iter().filter(|e| e.offset >= from).cloned();
            prop_assert_eq!(part, (behind.collect::<Vec<_>>(), end));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_gap_of_one_voucher_is_filled_from_its_rows_alone() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    let bound = any::<prop::sample::Index>;
    let input = (logs(), 1..20_usize, 1..=3_i64, bound(), bound());
    runner(40)
        .run(&input, |(log, limit, number, a, b)| {
            let end = log.last().unwrap().0.next();
            let bound = |i: prop::sample::Index| {
                Offset::new(i.index(log.len() * 2).try_into().unwrap()).min(end)
            };
            let (from, to) = (bound(a).min(bound(b)), bound(a).max(bound(b)));
            let voucher = voucher(number);
            let gap = runtime.block_on(async {
                stand.clear().await;
                stand.apply(0, &log).await.unwrap();
                paged(&stand, Some(voucher), from, Some(to), limit).await
            });
            let mut expected = fold(&log).effects();
            expected.retain(|e| e.voucher_id == voucher && (from..to).contains(&e.offset));
            prop_assert_eq!(gap, (expected, to));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn every_decision_has_its_effect_at_its_offset() {
    // Guards the expectation itself: the effects in memory are made by the same functions.
    let v = voucher(1);
    let first = order_id(v, 1);
    let log = log_from(
        0,
        [
            (v, scheduled(3)),
            (v, reserved(first, user(1), 1)),
            (v, expired(first)),
            (v, expired(first)),
        ],
    );
    let stand = Stand::new().await;
    stand.apply(0, &log).await.unwrap();
    let page = stand
        .book
        .effects_page(TOPIC, PARTITION, Offset::new(0), 10)
        .await
        .unwrap();
    let offsets: Vec<i64> = page.effects.iter().map(|e| e.offset.get()).collect();
    assert_eq!(offsets, [0, 1, 2]);
    // The last record changed nothing, and is done with all the same.
    assert_eq!(page.to, Offset::new(4));
}

#[tokio::test]
async fn a_page_without_an_end_of_its_own_ends_at_the_fold() {
    let stand = Stand::new().await;
    let v = voucher(1);
    stand
        .apply(0, &log_from(0, [(v, scheduled(3))]))
        .await
        .unwrap();
    let (far, five) = (Some(Offset::new(99)), Offset::new(5));
    let book = &stand.book;

    let beyond = book.effects_of_voucher(TOPIC, PARTITION, v, Offset::new(0), far, 9);
    assert_eq!(beyond.await.unwrap().to, Offset::new(1));
    // Nothing is said about what is not folded yet.
    let ahead = book.effects_page(TOPIC, PARTITION, five, 9).await.unwrap();
    assert_eq!((ahead.to, ahead.effects), (five, Vec::new()));
}

#[tokio::test]
async fn the_effects_position_never_moves_back() {
    let stand = Stand::new().await;
    for (to, expected) in [(5, 5), (3, 5), (8, 8)] {
        let book = &stand.book;
        book.move_effects(TOPIC, PARTITION, Offset::new(to), 0)
            .await
            .unwrap();
        let effects = book
            .positions(TOPIC, &[PARTITION], View::Effects)
            .await
            .unwrap();
        assert_eq!(effects, [(PARTITION, Offset::new(expected))]);
    }
    let orders = stand.book.positions(TOPIC, &[PARTITION], View::Orders);
    assert_eq!(orders.await.unwrap(), [(PARTITION, Offset::new(0))]);
}
