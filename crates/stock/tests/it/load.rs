//! Losing a sale and loading it again.

use seckill_domain::{Epoch, Offset, StockOp, Timestamp};
use seckill_stock::{
    Attempt, ClaimReply, HoldPlace, HoldState, LoadHold, LoadReply, LoadShrink, OpenReply,
    OutboxCursor, PendingEvent, Probe, ReserveOutcome, ReserveReply, ReserveRequest, SettleReply,
    ShrinkReply, Stock,
};

use crate::harness::{
    CLAIMED, PROMISE, Server, event, granted, hold, hold_state, key, load, nonce, order, outbox,
    request, reserve_one, sale, settle_one, units, user, view, voucher,
};

pub(crate) fn load_hold(number: u64, user_number: i64, place: HoldPlace) -> LoadHold {
    LoadHold {
        user_id: user(user_number),
        order_id: order(number),
        quantity: 2,
        place,
        key_hash: Some(key(3)),
        pay_by: Timestamp::from_micros(2_000),
        reserved_at: Timestamp::from_micros(1_000),
    }
}

pub(crate) async fn assert_not_served(stock: &Stock, epoch: Option<Epoch>) {
    let from = Offset::new(1);
    let reserved = stock
        .reserve(voucher(), &[request(1, 1)], &[], Attempt::First)
        .await;
    assert_eq!(reserved.unwrap(), ReserveReply::NotServed);
    let shrunk = stock.shrink(voucher(), event(1), 1).await;
    assert_eq!(shrunk.unwrap(), ShrinkReply::NotServed);
    assert!(!stock.clear(voucher(), &[]).await.unwrap());
    let page = stock.outbox(voucher(), std::time::Duration::ZERO, OutboxCursor::START);
    assert_eq!(page.await.unwrap(), None);
    let settled = stock.settle(voucher(), Epoch::FIRST, from, from, &[]).await;
    assert_eq!(settled.unwrap(), SettleReply::NotServed);
    let retired = stock.retire(voucher(), Offset::new(0)).await;
    assert_eq!(retired.unwrap(), None);
    let not_served = Probe::NotServed { epoch };
    assert_eq!(stock.probe(voucher()).await.unwrap(), not_served);
    assert_eq!(
        stock.hold(voucher(), user(1)).await.unwrap(),
        (not_served, None)
    );
}

#[tokio::test]
async fn a_restarted_server_serves_nothing_until_the_sale_is_loaded() {
    let mut server = Server::with_sale().await;
    granted(&server.stock, &request(1, 11)).await;
    let fence = server
        .stock
        .connection_for(voucher())
        .await
        .unwrap()
        .fence()
        .clone();
    server.redis.restart().unwrap();
    // The broken connection is found out by the call that uses it.
    assert!(server.stock.probe(voucher()).await.is_err());
    assert_not_served(&server.stock, None).await;
    assert_ne!(
        server
            .stock
            .connection_for(voucher())
            .await
            .unwrap()
            .fence(),
        &fence
    );
    load(&server.stock, &sale(10), Offset::new(1)).await;
    granted(&server.stock, &request(2, 11)).await;
}

#[tokio::test]
async fn a_failover_closes_what_was_loaded_before_it() {
    let server = Server::with_sale().await;
    let reservation = granted(&server.stock, &request(1, 11)).await;
    let fence = server
        .stock
        .connection_for(voucher())
        .await
        .unwrap()
        .fence()
        .clone();
    let mut raw = server.raw().await;
    // A master that is promoted anew has another replication id, and the old data.
    for target in [["127.0.0.1", "1"], ["NO", "ONE"]] {
        let done = redis::cmd("REPLICAOF")
            .arg(&target)
            .exec_async(&mut raw)
            .await;
        done.unwrap();
    }
    assert!(server.stock.survey(&[voucher()]).await.failure.is_some());
    assert_not_served(&server.stock, Some(Epoch::FIRST)).await;
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    assert_ne!(connection.fence(), &fence);

    // The load finds what the old data still has.
    let (epoch, nonce) = (Epoch::new(2), nonce(5));
    let claim = connection.claim(voucher(), nonce, epoch).await.unwrap();
    let promised_under = Some(PROMISE);
    assert_eq!(claim, ClaimReply::Claimed { promised_under });
    let old = connection
        .old_outbox(voucher(), nonce, OutboxCursor::START)
        .await;
    let pending = PendingEvent::Reservation(reservation);
    assert_eq!(old.unwrap().unwrap().entries, [pending]);
}

#[tokio::test]
async fn a_sale_in_use_is_claimed_only_for_a_later_epoch() {
    let server = Server::with_sale().await;
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    let claim = connection.claim(voucher(), nonce(5), Epoch::FIRST).await;
    assert_eq!(claim.unwrap(), ClaimReply::Live);
    granted(&server.stock, &request(1, 11)).await;
    let claim = connection.claim(voucher(), nonce(5), Epoch::new(2)).await;
    let promised_under = Some(PROMISE);
    assert_eq!(claim.unwrap(), ClaimReply::Claimed { promised_under });
    assert_not_served(&server.stock, Some(Epoch::FIRST)).await;
}

#[tokio::test]
async fn a_load_that_was_overtaken_is_lost_at_every_step() {
    let server = Server::start();
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    let (sale, position) = (sale(10), Offset::new(1));
    let (first, second) = (nonce(5), nonce(6));
    for nonce in [first, second] {
        let claim = connection.claim(voucher(), nonce, Epoch::FIRST).await;
        assert_eq!(claim.unwrap(), CLAIMED);
        let begun = connection.load_begin(nonce, &sale, position, PROMISE).await;
        assert_eq!(begun.unwrap(), LoadReply::Loaded);
    }
    let begun = connection.load_begin(first, &sale, position, PROMISE).await;
    assert_eq!(begun.unwrap(), LoadReply::Lost);
    let holds = connection
        .load_holds(voucher(), first, &[load_hold(1, 1, HoldPlace::Live)])
        .await;
    assert_eq!(holds.unwrap(), LoadReply::Lost);
    let regranted = connection.regrant(voucher(), first, &[]).await;
    assert_eq!(regranted.unwrap(), LoadReply::Lost);
    let old = connection
        .old_outbox(voucher(), first, OutboxCursor::START)
        .await;
    assert_eq!(old.unwrap(), None);
    let opened = connection.open(voucher(), first).await;
    assert_eq!(opened.unwrap(), OpenReply::Lost);

    let old = connection
        .old_outbox(voucher(), second, OutboxCursor::START)
        .await;
    assert!(old.unwrap().unwrap().entries.is_empty());
    let opened = connection.open(voucher(), second).await;
    assert_eq!(opened.unwrap(), OpenReply::Opened);
    let again = connection.open(voucher(), second).await;
    assert_eq!(again.unwrap(), OpenReply::Lost);
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}

#[tokio::test]
async fn a_load_does_not_replace_a_sale_that_is_in_use() {
    let server = Server::with_sale().await;
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    let epoch = Epoch::new(2);
    connection.claim(voucher(), nonce(5), epoch).await.unwrap();
    let new = seckill_domain::Sale { epoch, ..sale(3) };
    connection
        .load_begin(nonce(5), &new, Offset::new(1), PROMISE)
        .await
        .unwrap();
    // As if another load had come in between, and its claim were forgotten.
    let mut raw = server.raw().await;
    let mut set = redis::cmd("HSET");
    set.arg(&["seckill:{7}:sale", "state", "open", "epoch", "2"]);
    set.exec_async(&mut raw).await.unwrap();
    let opened = connection.open(voucher(), nonce(5)).await;
    assert_eq!(opened.unwrap(), OpenReply::Lost);
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}

#[tokio::test]
async fn a_load_needs_its_beginning() {
    let server = Server::start();
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    connection
        .claim(voucher(), nonce(5), Epoch::FIRST)
        .await
        .unwrap();
    let holds = connection.load_holds(voucher(), nonce(5), &[]).await;
    assert_eq!(holds.unwrap(), LoadReply::Lost);
    let opened = connection.open(voucher(), nonce(5)).await;
    assert_eq!(opened.unwrap(), OpenReply::Lost);
}

#[tokio::test]
async fn a_load_brings_holds_tombstones_and_what_was_pending() {
    let server = Server::with_sale().await;
    let stock = &server.stock;
    let with_key = |number, user, quantity| ReserveRequest {
        quantity,
        key_hash: Some(key(1)),
        ..request(number, user)
    };
    let mut pending = Vec::new();
    for (number, user, quantity) in [(1, 11, 2), (2, 12, 2), (3, 13, 3)] {
        let reservation = granted(stock, &with_key(number, user, quantity)).await;
        pending.push(PendingEvent::Reservation(reservation));
    }
    let ShrinkReply::Taken(shrink) = stock.shrink(voucher(), event(9), 1).await.unwrap() else {
        panic!("not taken");
    };
    pending.push(PendingEvent::Shrink(shrink));

    let connection = stock.connection_for(voucher()).await.unwrap();
    let (nonce, epoch) = (nonce(5), Epoch::new(2));
    connection.claim(voucher(), nonce, epoch).await.unwrap();
    let new = seckill_domain::Sale { epoch, ..sale(4) };
    connection
        .load_begin(nonce, &new, Offset::new(40), PROMISE)
        .await
        .unwrap();
    // User 12 has a live order by now, user 13 a released one; 11's is regranted, 13's finds no stock.
    let holds = [
        load_hold(22, 12, HoldPlace::Live),
        load_hold(23, 13, HoldPlace::Released),
    ];
    for _ in 0..2 {
        let loaded = connection.load_holds(voucher(), nonce, &holds).await;
        assert_eq!(loaded.unwrap(), LoadReply::Loaded);
    }
    for _ in 0..2 {
        let loaded = connection.regrant(voucher(), nonce, &pending).await;
        assert_eq!(loaded.unwrap(), LoadReply::Loaded);
    }
    let opened = connection.open(voucher(), nonce).await.unwrap();
    assert_eq!(opened, OpenReply::Opened);

    let view = view(stock).await;
    assert_eq!((view.stock, view.held, view.unsettled), (1, 4, 3));
    assert_eq!((view.epoch, view.position), (epoch, Offset::new(40)));
    assert_eq!(hold_state(stock, 11).await, Some(HoldState::Held));
    let settled = hold(stock, 12).await.unwrap();
    assert_eq!(
        (settled.order_id, settled.state),
        (order(22), HoldState::Settled)
    );
    assert_eq!(hold_state(stock, 13).await, Some(HoldState::Released));
    let tombstone = ReserveRequest {
        key_hash: Some(key(3)),
        ..with_key(33, 13, 2)
    };
    let repeated = reserve_one(stock, &tombstone).await;
    assert!(matches!(
        repeated,
        ReserveOutcome::Repeated { released: true, .. }
    ));
    assert_regranted(stock, &pending, epoch).await;
    assert_nothing_expires(&server).await;
}

/// The first and the last are pending again as they were, but for the epoch.
async fn assert_regranted(stock: &Stock, pending: &[PendingEvent], epoch: Epoch) {
    let mut expected = [pending[0].clone(), pending[3].clone()];
    for event in &mut expected {
        match event {
            PendingEvent::Reservation(reservation) => reservation.epoch = epoch,
            PendingEvent::Shrink(shrink) => shrink.epoch = epoch,
        }
    }
    let mut found = outbox(stock).await;
    found.sort_by_key(|event| matches!(event, PendingEvent::Shrink(_)));
    assert_eq!(found, expected);
}

async fn assert_nothing_expires(server: &Server) {
    let mut raw = server.raw().await;
    let mut keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut raw)
        .await
        .unwrap();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "seckill:{7}:holds",
            "seckill:{7}:outbox",
            "seckill:{7}:sale"
        ]
    );
    for key in keys {
        let ttl: i64 = redis::cmd("TTL")
            .arg(&key)
            .query_async(&mut raw)
            .await
            .unwrap();
        assert_eq!(ttl, -1, "{key}");
    }
}

#[tokio::test]
async fn an_abandoned_load_is_forgotten() {
    let server = Server::start();
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    connection
        .claim(voucher(), nonce(5), Epoch::FIRST)
        .await
        .unwrap();
    connection
        .load_begin(nonce(5), &sale(10), Offset::new(1), PROMISE)
        .await
        .unwrap();
    connection
        .load_holds(voucher(), nonce(5), &[load_hold(1, 1, HoldPlace::Live)])
        .await
        .unwrap();
    let mut raw = server.raw().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(keys.len(), 4);
    for key in keys {
        let ttl: i64 = redis::cmd("TTL")
            .arg(&key)
            .query_async(&mut raw)
            .await
            .unwrap();
        assert!((1..=600).contains(&ttl), "{key} lives for {ttl} s");
    }
}

/// A load of a sale that is over ends with nothing in Redis, and only while it may.
#[tokio::test]
async fn a_load_of_a_sale_that_is_over_leaves_nothing() {
    let server = Server::with_sale().await;
    let connection = server.stock.connection_for(voucher()).await.unwrap();
    let (mine, later, epoch) = (nonce(5), nonce(6), Epoch::new(2));
    connection.claim(voucher(), mine, epoch).await.unwrap();
    connection.claim(voucher(), later, epoch).await.unwrap();
    let discard = async |nonce| connection.discard(voucher(), nonce, epoch).await.unwrap();
    assert_eq!(discard(mine).await, LoadReply::Lost);
    let mut raw = server.raw().await;
    let mut keys = redis::cmd("KEYS");
    let keys = keys.arg("*");
    let found: Vec<String> = keys.query_async(&mut raw).await.unwrap();
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(discard(later).await, LoadReply::Loaded);
    let found: Vec<String> = keys.query_async(&mut raw).await.unwrap();
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(discard(later).await, LoadReply::Lost, "its claim is gone");
}

/// Asked again after a load by whoever never got the answer: its event is in the log, where it is decided
/// once, so that units that were taken a second time would never come back.
#[tokio::test]
async fn a_shrink_that_the_log_has_decided_takes_nothing_after_a_load() {
    let server = Server::with_sale().await;
    let stock = &server.stock;
    let connection = stock.connection_for(voucher()).await.unwrap();
    let (nonce, epoch) = (nonce(5), Epoch::new(2));
    connection.claim(voucher(), nonce, epoch).await.unwrap();
    let new = seckill_domain::Sale { epoch, ..sale(6) };
    let begun = connection.load_begin(nonce, &new, Offset::new(40), PROMISE);
    begun.await.unwrap();
    let decided = LoadShrink {
        event_id: event(1),
        units: 4,
    };
    let loaded = connection.load_shrinks(voucher(), nonce, &[decided]).await;
    assert_eq!(loaded.unwrap(), LoadReply::Loaded);
    connection.open(voucher(), nonce).await.unwrap();
    let again = stock.shrink(voucher(), event(1), 4).await.unwrap();
    assert!(matches!(again, ShrinkReply::Taken(_)), "{again:?}");
    assert_eq!(units(stock).await, (6, 0, 0));
    assert!(outbox(stock).await.is_empty());
}

/// The log has refused it before it was asked for again, and gives nothing back a second time.
#[tokio::test]
async fn a_shrink_that_the_log_has_refused_takes_nothing_afterwards() {
    let server = Server::with_sale().await;
    let returned = StockOp::ShrinkReturned {
        event_id: event(1),
        units: 4,
    };
    settle_one(&server, 1, returned).await;
    let again = server.stock.shrink(voucher(), event(1), 4).await.unwrap();
    assert!(matches!(again, ShrinkReply::Taken(_)), "{again:?}");
    assert_eq!(units(&server.stock).await, (10, 0, 0));
}
