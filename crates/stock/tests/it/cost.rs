//! What a call costs, in commands that Redis executes.

use seckill_domain::{Epoch, Offset, Timestamp};
use seckill_stock::{HoldPlace, LoadHold};

use crate::harness::{
    PROMISE, Server, confirm, granted, hold, key, nonce, order, outbox, release, request, sale,
    user, view, voucher,
};

/// With a hundred thousand holds a call executes the very commands that it executes with none.
#[tokio::test]
async fn the_cost_of_a_call_does_not_grow_with_the_holds() {
    let server = Server::start();
    let mut costs = Vec::new();
    for holds in [0_i64, 100_000] {
        let connection = server.stock.connection_for(voucher()).await.unwrap();
        let epoch = Epoch::new(1 + holds);
        let sale = seckill_domain::Sale { epoch, ..sale(10) };
        connection.claim(voucher(), nonce(5), epoch).await.unwrap();
        connection
            .load_begin(nonce(5), &sale, Offset::new(1), PROMISE)
            .await
            .unwrap();
        let all: Vec<_> = (0..holds).map(live_hold).collect();
        for chunk in all.chunks(500) {
            connection
                .load_holds(voucher(), nonce(5), chunk)
                .await
                .unwrap();
        }
        connection.open(voucher(), nonce(5)).await.unwrap();
        assert_eq!(view(&server.stock).await.held, 2 * holds);
        costs.push(commands_of_one_order(&server, epoch).await);
    }
    assert_eq!(costs[0], costs[1]);
}

async fn commands_of_one_order(server: &Server, epoch: Epoch) -> Vec<String> {
    let mut raw = server.raw().await;
    redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .exec_async(&mut raw)
        .await
        .unwrap();
    let stock = &server.stock;
    let reservation = granted(stock, &request(1, 11)).await;
    assert_eq!(outbox(stock).await.len(), 1);
    assert!(hold(stock, 11).await.is_some());
    let (from, to) = (Offset::new(1), Offset::new(3));
    let ops = [
        (from, confirm(&reservation)),
        (from.next(), release(&reservation)),
    ];
    stock
        .settle(voucher(), epoch, from, to, &ops)
        .await
        .unwrap();
    let info: String = redis::cmd("INFO")
        .arg("commandstats")
        .query_async(&mut raw)
        .await
        .unwrap();
    let calls = info
        .lines()
        .filter_map(|line| Some(line.split_once(",usec=")?.0.to_owned()));
    let mut calls: Vec<_> = calls.filter(|line| line.starts_with("cmdstat_h")).collect();
    calls.sort_unstable();
    assert!(!calls.is_empty());
    calls
}

fn live_hold(number: i64) -> LoadHold {
    LoadHold {
        user_id: user(number + 1_000),
        order_id: order(number.unsigned_abs() + 1_000),
        quantity: 2,
        place: HoldPlace::Live,
        key_hash: Some(key(3)),
        pay_by: Timestamp::from_micros(2_000),
        reserved_at: Timestamp::from_micros(1_000),
    }
}
