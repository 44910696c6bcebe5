//! The hot path against a real Redis and a real Kafka.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

mod harness;
mod outages;

use std::time::Duration;

use harness::{Conditions, Rig, distinct, eventually, order};
use seckill_domain::{
    EventBody, EventId, KeyHash, Offset, OrderId, Reason, Refusal, StockOp, TraceParent,
};
use seckill_ingress::orders::reservations::{
    PlaceError, Placed, PlacedState, PublishError, ShrinkError,
};
use seckill_stock::SettleReply;
use tokio::task::JoinSet;
use uuid::Uuid;

type Answer = Result<Placed, PlaceError>;

/// Places one order a user, all at once.
fn click(rig: &Rig, users: impl Iterator<Item = (i64, Option<u8>)>) -> JoinSet<Answer> {
    let voucher = rig.voucher;
    let mut clicks = JoinSet::new();
    for (user, key) in users {
        let reservations = rig.reservations.clone();
        clicks.spawn(async move { reservations.place(voucher, order(user, key)).await });
    }
    clicks
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_clicks_with_one_key_are_one_order() {
    let rig = Rig::start(Conditions::default()).await;

    let answers = click(&rig, (0..64).map(|_| (1, Some(1)))).join_all().await;

    let placed: Vec<Placed> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(distinct(placed.iter().map(|p| p.order_id)).len(), 1);
    // Only the call that took the unit may promise: no other knows of the ack.
    assert_eq!(
        placed
            .iter()
            .filter(|p| p.state == PlacedState::Reserved)
            .count(),
        1
    );
    let logged = rig.logged().await;
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0].order_id, placed[0].order_id);
    assert_eq!(rig.view().await.stock, 99);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_units_go_to_exactly_a_hundred_of_two_thousand_buyers() {
    let rig = Rig::start(Conditions::default()).await;

    let clicks = click(&rig, (1..=2_000).map(|user| (user, None)));
    let answers = clicks.join_all().await;

    assert!(
        answers
            .iter()
            .flatten()
            .all(|p| p.state == PlacedState::Reserved)
    );
    let reserved: Vec<OrderId> = answers.iter().flatten().map(|p| p.order_id).collect();
    assert_eq!(reserved.len(), 100);
    let sold_out = answers
        .iter()
        .filter(|a| **a == Err(PlaceError::Refused(Refusal::SoldOut)));
    assert_eq!(sold_out.count(), 1_900);
    let logged = rig.logged().await;
    assert_eq!(logged.len(), 100);
    assert_eq!(
        distinct(logged.iter().map(|e| e.order_id)),
        distinct(reserved)
    );
    assert_eq!(rig.view().await.stock, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_clears_the_outbox_and_not_the_hold() {
    let rig = Rig::start(Conditions::default()).await;

    let placed = rig.reservations.place(rig.voucher, order(1, None)).await;

    assert_eq!(placed.unwrap().state, PlacedState::Reserved);
    rig.outbox_is_cleared().await;
    let view = rig.view().await;
    assert_eq!((view.held, view.unsettled), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_promised_once_settled_and_publishes_nothing() {
    let rig = Rig::start(Conditions::default()).await;
    let again = async || {
        let placed = rig.reservations.place(rig.voucher, order(1, Some(1))).await;
        placed.unwrap()
    };
    let first = again().await;
    assert_eq!(first.state, PlacedState::Reserved);
    assert_eq!(again().await.state, PlacedState::Pending);

    let confirm = StockOp::Confirm {
        order_id: first.order_id,
        user_id: order(1, None).user_id,
        quantity: 1,
        key_hash: Some(KeyHash::from_bytes([1; 16])),
        pay_by: first.pay_by,
    };
    settle(&rig, Offset::new(1), confirm).await;
    assert_eq!(again().await, first);

    let release = StockOp::Release {
        order_id: first.order_id,
        user_id: order(1, None).user_id,
    };
    settle(&rig, Offset::new(2), release).await;
    let released = again().await;
    assert_eq!(
        (released.order_id, released.state),
        (first.order_id, PlacedState::Released)
    );
    assert_eq!(rig.logged().await.len(), 1);
}

async fn settle(rig: &Rig, offset: Offset, op: StockOp) {
    let (epoch, to) = (rig.sale.epoch, offset.next());
    let ops = [(offset, op)];
    let settled = rig.stock.settle(rig.voucher, epoch, offset, to, &ops).await;
    assert_eq!(settled.unwrap(), SettleReply::Settled { position: to });
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_script_reach_the_buyer() {
    let rig = Rig::start(Conditions::default()).await;
    let first = rig.reservations.place(rig.voucher, order(1, Some(1))).await;
    let place = async |order| {
        rig.reservations
            .place(rig.voucher, order)
            .await
            .unwrap_err()
    };

    let order_id = first.unwrap().order_id;
    assert_eq!(
        place(order(1, None)).await,
        PlaceError::Refused(Refusal::AlreadyOrdered { order_id })
    );
    let mut other_quantity = order(1, Some(1));
    other_quantity.quantity = 2;
    assert_eq!(
        place(other_quantity).await,
        PlaceError::Refused(Refusal::KeyReused)
    );
    let mut greedy = order(2, None);
    greedy.quantity = 3;
    assert_eq!(
        place(greedy).await,
        PlaceError::Refused(Refusal::QuantityLimit { max_quantity: 2 })
    );
    let unknown = seckill_domain::VoucherId::new(8).unwrap();
    let answer = rig.reservations.place(unknown, order(2, None)).await;
    assert_eq!(answer, Err(PlaceError::NotServed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shrink_takes_free_units_only_and_is_logged_with_its_reason() {
    let rig = Rig::start(Conditions::default()).await;
    let event_id = EventId::from_uuid(Uuid::now_v7());
    let shrink = async |units| {
        let trace = TraceParent::generate(1, 1);
        let reason = Reason::new("water damage").unwrap();
        rig.reservations
            .shrink(rig.voucher, event_id, units, reason, trace)
            .await
    };

    assert_eq!(shrink(101).await, Err(ShrinkError::Committed { free: 100 }));
    shrink(30).await.unwrap();

    let logged = rig.logged_events().await;
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0].event_id, event_id);
    let EventBody::StockAdjusted(adjustment) = &logged[0].body else {
        panic!("{logged:?}");
    };
    assert_eq!(adjustment.delta, -30);
    assert_eq!(adjustment.reason.as_str(), "water damage");
    assert_eq!(adjustment.epoch, Some(rig.sale.epoch));
    assert_eq!(rig.view().await.stock, 70);
    rig.outbox_is_cleared().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_is_finished_though_the_buyer_hangs_up_and_the_process_stops() {
    let mut rig = Rig::start(Conditions {
        max_in_flight: 10,
        ..Conditions::default()
    })
    .await;
    rig.redis.pause().unwrap();
    let mut clicks = click(&rig, (1..=10).map(|user| (user, None)));
    eventually("all to be in flight", async || {
        rig.reservations.is_accepting().is_err()
    })
    .await;
    clicks.shutdown().await;
    rig.redis.resume().unwrap();

    rig.reservations.drain(Duration::from_secs(20)).await;

    assert_eq!(rig.view().await.held, 10);
    assert_eq!(rig.logged().await.len(), 10);
    assert_eq!(rig.outbox().await, []);
    let late = rig.reservations.place(rig.voucher, order(99, None)).await;
    assert_eq!(late, Err(PlaceError::Unavailable));
    let trace = TraceParent::generate(1, 1);
    let event = rig.reservations.publish(rig.scheduled(), trace).await;
    let stopping = PublishError::NotSent("the process is stopping".to_owned());
    assert_eq!(event, Err(stopping));
    assert!(rig.reservations.is_accepting().is_err());
}
