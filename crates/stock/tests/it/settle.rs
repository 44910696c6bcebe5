//! The log's decisions on the stock: once each, whatever is repeated.

use seckill_domain::{Epoch, Offset, StockOp, Timestamp};
use seckill_stock::{HoldState, ReserveRequest, SettleReply, ShrinkReply, StockError};

use crate::harness::{
    Server, confirm, event, granted, hold, hold_state, key, order, outbox, release, request, units,
    user, view, voucher,
};

async fn settle(server: &Server, (from, to): (i64, i64), ops: &[(Offset, StockOp)]) -> SettleReply {
    let (from, to) = (Offset::new(from), Offset::new(to));
    let settled = server
        .stock
        .settle(voucher(), Epoch::FIRST, from, to, ops)
        .await;
    settled.expect("Redis answers")
}

fn at(offset: i64, op: StockOp) -> (Offset, StockOp) {
    (Offset::new(offset), op)
}

fn settled(position: i64) -> SettleReply {
    let position = Offset::new(position);
    SettleReply::Settled { position }
}

#[tokio::test]
async fn confirm_then_release_gives_the_units_back_once() {
    let server = Server::with_sale().await;
    let pending = granted(
        &server.stock,
        &ReserveRequest {
            quantity: 3,
            ..request(1, 11)
        },
    )
    .await;
    let ops = [at(4, confirm(&pending)), at(6, release(&pending))];

    assert_eq!(settle(&server, (1, 6), &ops[..1]).await, settled(6));
    assert_eq!(units(&server.stock).await, (7, 3, 0));
    assert_eq!(
        hold_state(&server.stock, 11).await,
        Some(HoldState::Settled)
    );
    assert!(outbox(&server.stock).await.is_empty());

    for _ in 0..2 {
        assert_eq!(settle(&server, (1, 9), &ops).await, settled(9));
        assert_eq!(units(&server.stock).await, (10, 0, 0));
        assert_eq!(
            hold_state(&server.stock, 11).await,
            Some(HoldState::Released)
        );
    }
}

#[tokio::test]
async fn a_zombie_and_a_gap_change_nothing() {
    let server = Server::with_sale().await;
    let first = granted(&server.stock, &request(1, 11)).await;
    settle(
        &server,
        (1, 3),
        &[at(1, confirm(&first)), at(2, release(&first))],
    )
    .await;
    let second = granted(&server.stock, &request(2, 11)).await;

    // Somebody who was stopped for long carries out what was carried out long ago.
    assert_eq!(
        settle(&server, (1, 2), &[at(1, confirm(&first))]).await,
        settled(3)
    );
    assert_eq!(
        hold(&server.stock, 11).await.unwrap().order_id,
        second.order_id
    );

    let gap = settle(&server, (5, 6), &[at(5, release(&second))]).await;
    let position = Offset::new(3);
    assert_eq!(gap, SettleReply::Gap { position });
    assert_eq!(hold_state(&server.stock, 11).await, Some(HoldState::Held));
    assert_eq!(view(&server.stock).await.position, position);

    let later_epoch = Epoch::FIRST.next();
    let refused = server
        .stock
        .settle(voucher(), later_epoch, position, position, &[])
        .await;
    assert_eq!(refused.unwrap(), SettleReply::NotServed);
}

#[tokio::test]
async fn an_order_that_redis_lost_takes_its_place() {
    let server = Server::with_sale().await;
    let lost = StockOp::Confirm {
        order_id: order(9),
        user_id: user(12),
        quantity: 3,
        key_hash: Some(key(9)),
        pay_by: Timestamp::from_micros(2_000_000_000_000_000),
    };
    settle(&server, (1, 2), &[at(1, lost)]).await;
    assert_eq!(units(&server.stock).await, (7, 3, 0));
    let adopted = hold(&server.stock, 12).await.unwrap();
    assert_eq!(
        (adopted.order_id, adopted.state),
        (order(9), HoldState::Settled)
    );
    assert_eq!(adopted.key_hash, Some(key(9)));
    assert_eq!(
        adopted.reserved_at,
        Timestamp::from_micros(1_999_999_100_000_000)
    );

    // The user's other hold gives way; its own event will be refused, which changes nothing more.
    let displaced = granted(&server.stock, &request(1, 11)).await;
    let winner = StockOp::Confirm {
        order_id: order(8),
        user_id: user(11),
        quantity: 2,
        key_hash: None,
        pay_by: displaced.pay_by,
    };
    settle(&server, (2, 3), &[at(2, winner)]).await;
    assert_eq!(units(&server.stock).await, (5, 5, 0));
    assert_eq!(
        outbox(&server.stock).await.len(),
        1,
        "still to be published"
    );
    settle(&server, (3, 4), &[at(3, release(&displaced))]).await;
    assert_eq!(units(&server.stock).await, (5, 5, 0));
    assert_eq!(hold(&server.stock, 11).await.unwrap().order_id, order(8));
    assert!(outbox(&server.stock).await.is_empty());
}

#[tokio::test]
async fn a_sale_is_not_retired_while_an_event_is_pending() {
    let server = Server::with_sale().await;
    let displaced = granted(&server.stock, &request(1, 11)).await;
    let winner = StockOp::Confirm {
        order_id: order(8),
        user_id: user(11),
        quantity: 1,
        key_hash: None,
        pay_by: displaced.pay_by,
    };
    settle(&server, (1, 3), &[at(1, winner), at(2, StockOp::Close)]).await;
    assert_eq!(units(&server.stock).await, (9, 1, 0));
    let retire = || server.stock.retire(voucher(), Offset::new(3));
    assert_eq!(retire().await.unwrap(), None);
    assert!(
        server
            .stock
            .clear(voucher(), &[displaced.ack()])
            .await
            .unwrap()
    );
    assert_eq!(retire().await.unwrap(), Some(Offset::new(3)));
}

/// The log decides once, at one offset. Should it not, no units come out of nothing.
#[tokio::test]
async fn a_decision_at_a_second_offset_makes_no_units() {
    let server = Server::with_sale().await;
    let pending = granted(&server.stock, &request(1, 11)).await;
    let shrunk = server.stock.shrink(voucher(), event(9), 2).await;
    assert!(matches!(shrunk.unwrap(), ShrinkReply::Taken(_)));
    let returned = || StockOp::ShrinkReturned {
        event_id: event(9),
        units: 2,
    };
    let ops = [
        at(1, release(&pending)),
        at(2, release(&pending)),
        at(3, returned()),
        at(4, returned()),
    ];
    settle(&server, (1, 5), &ops).await;
    assert_eq!(units(&server.stock).await, (10, 0, 0));
    // A released order that the log lets stand after all takes its units again.
    settle(&server, (5, 6), &[at(5, confirm(&pending))]).await;
    assert_eq!(units(&server.stock).await, (9, 1, 0));
}

#[tokio::test]
async fn restock_shrink_and_close() {
    let server = Server::with_sale().await;
    for (number, wanted) in [(1, 2), (2, 3)] {
        let reply = server.stock.shrink(voucher(), event(number), wanted).await;
        assert!(matches!(reply.unwrap(), ShrinkReply::Taken(_)));
    }
    assert_eq!(units(&server.stock).await, (5, 0, 5));
    let kept = |number, units| StockOp::ShrinkKept {
        event_id: event(number),
        units,
    };
    let returned = StockOp::ShrinkReturned {
        event_id: event(2),
        units: 3,
    };
    let ops = [
        at(1, StockOp::Restock { units: 20 }),
        at(2, kept(1, 2)),
        at(3, returned),
        // Taken before this server lost its data.
        at(4, kept(3, 4)),
        at(5, StockOp::Close),
    ];
    for _ in 0..2 {
        assert_eq!(settle(&server, (1, 6), &ops).await, settled(6));
        assert_eq!(units(&server.stock).await, (24, 0, 0));
        assert!(view(&server.stock).await.sale_closed);
        assert!(outbox(&server.stock).await.is_empty());
    }
}

#[tokio::test]
async fn decisions_out_of_order_or_outside_the_range_are_not_sent() {
    let server = Server::with_sale().await;
    let close = |offset| at(offset, StockOp::Close);
    for (range, ops) in [
        ((1, 9), vec![close(3), close(2)]),
        ((1, 9), vec![close(2), close(2)]),
        ((1, 9), vec![close(9)]),
        ((3, 9), vec![close(2)]),
        ((9, 3), vec![]),
        ((0, 900), (0..501).map(close).collect()),
    ] {
        let (from, to) = (Offset::new(range.0), Offset::new(range.1));
        let refused = server
            .stock
            .settle(voucher(), Epoch::FIRST, from, to, &ops)
            .await;
        assert!(matches!(refused, Err(StockError::Protocol(_))), "{range:?}");
    }
    assert!(!view(&server.stock).await.sale_closed);
}

#[tokio::test]
async fn five_hundred_decisions_fit_into_one_call() {
    let server = Server::with_sale().await;
    let ops: Vec<_> = (1..=500_i64)
        .map(|n| {
            let op = StockOp::Confirm {
                order_id: order(n.unsigned_abs()),
                user_id: user(n),
                quantity: 1,
                key_hash: Some(key(1)),
                pay_by: Timestamp::from_micros(2_000_000_000_000_000),
            };
            at(n, op)
        })
        .collect();
    assert_eq!(settle(&server, (1, 501), &ops).await, settled(501));
    assert_eq!(units(&server.stock).await, (-490, 500, 0));
    let releases: Vec<_> = (1..=500_i64)
        .map(|n| {
            let op = StockOp::Release {
                order_id: order(n.unsigned_abs()),
                user_id: user(n),
            };
            at(500 + n, op)
        })
        .collect();
    assert_eq!(settle(&server, (501, 1001), &releases).await, settled(1001));
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}
