//! Redis silent, Kafka gone: what is promised, what is refused, and what the relay mends.

use std::time::Duration;

use seckill_domain::{LogBatch, Offset, OrderId, partition_of};
use seckill_ingress::orders::reservations::{PlaceError, PlacedState, RelayOptions};
use seckill_orderbook::{Orderbook, OrderbookOptions, SkipDecisions};
use seckill_testkit::{Kafka, fresh_database};
use tokio_util::sync::CancellationToken;

use crate::click;
use crate::harness::{Conditions, PARTITIONS, Rig, distinct, eventually, order};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_answer_is_lost_does_not_take_twice() {
    let mut rig = Rig::start(Conditions::default()).await;
    rig.redis.pause().unwrap();
    let clicks = click(&rig, (1..=50).map(|user| (user, None)));
    // The connection is given up once a call has timed out, and no other can be made.
    eventually("a call to time out", async || {
        rig.stock.now().await.is_err()
    })
    .await;
    rig.redis.resume().unwrap();

    let answers = clicks.join_all().await;

    assert!(
        answers
            .iter()
            .all(|a| a.is_ok_and(|p| p.state == PlacedState::Reserved))
    );
    let orders: Vec<OrderId> = answers.iter().flatten().map(|p| p.order_id).collect();
    assert_eq!(distinct(orders.clone()).len(), 50);
    assert_eq!(rig.view().await.stock, 50);
    let logged = rig.logged().await;
    assert_eq!(
        distinct(logged.iter().map(|e| e.order_id)),
        distinct(orders)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_the_answer_comes_at_the_promise_deadline() {
    let mut rig = Rig::start(Conditions {
        promise_deadline: Duration::from_secs(1),
        ..Conditions::default()
    })
    .await;
    rig.redis.kill().unwrap();

    let answer = rig.reservations.place(rig.voucher, order(1, None)).await;

    assert_eq!(answer, Err(PlaceError::Unavailable));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_most_in_flight_are_refused_before_redis_is_asked() {
    let mut rig = Rig::start(Conditions {
        max_in_flight: 1,
        ..Conditions::default()
    })
    .await;
    rig.redis.pause().unwrap();
    let first = click(&rig, [(1, None)].into_iter());
    eventually("the first to be in flight", async || {
        rig.reservations.is_accepting().is_err()
    })
    .await;

    let second = rig.reservations.place(rig.voucher, order(2, None)).await;

    assert_eq!(second, Err(PlaceError::Overloaded));
    rig.redis.resume().unwrap();
    assert_eq!(
        first.join_all().await[0].unwrap().state,
        PlacedState::Reserved
    );
    eventually("room for another", async || {
        rig.reservations.is_accepting().is_ok()
    })
    .await;
    assert_eq!(rig.view().await.held, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_orders_are_pending_then_refused_and_the_relay_of_another_process_publishes()
{
    let mut kafka = Kafka::start().unwrap();
    let rig = Rig::start(Conditions {
        promise_deadline: Duration::from_millis(500),
        delivery_timeout: Duration::from_secs(2),
        brokers: Some(kafka.brokers()),
        ..Conditions::default()
    })
    .await;
    let database = fresh_database().unwrap();
    let orderbook = orderbook_with_sale(&rig, &database.url()).await;
    kafka.kill().unwrap();

    let placed = rig.reservations.place(rig.voucher, order(1, Some(1))).await;
    let placed = placed.unwrap();
    assert_eq!(placed.state, PlacedState::Pending);
    // Nothing is undone, and nobody else is let in: because of the silence, or of the failure.
    eventually("the silence to be noticed", async || {
        rig.reservations.is_accepting().is_err()
    })
    .await;
    let refused = rig.reservations.place(rig.voucher, order(2, None)).await;
    assert_eq!(refused, Err(PlaceError::Unavailable));
    assert_eq!(rig.view().await.stock, 99);
    let waiting = rig.outbox().await;
    assert_eq!(waiting.len(), 1);

    kafka.restart().unwrap();
    let stop = CancellationToken::new();
    let relay = tokio::spawn(rig.another_process().await.relay(
        RelayOptions {
            orderbook,
            partitions: PARTITIONS,
        },
        stop.clone(),
    ));
    rig.outbox_is_cleared().await;
    stop.cancel();
    relay.await.unwrap();

    // Once, or more than once where an ack was late; unchanged in any case.
    let logged = rig.logged_events().await;
    let event = waiting[0].to_event(rig.voucher);
    assert_eq!(event.body.order_id(), Some(placed.order_id));
    assert!(!logged.is_empty());
    assert!(logged.iter().all(|e| *e == event), "{logged:?}");
    // The process that was refused tries again by itself.
    eventually("orders to be taken again", async || {
        rig.reservations.is_accepting().is_ok()
    })
    .await;
    let next = rig.reservations.place(rig.voucher, order(2, None)).await;
    assert_ne!(next.unwrap().order_id, placed.order_id);
}

/// A view in PostgreSQL that knows the sale.
async fn orderbook_with_sale(rig: &Rig, database_url: &str) -> Orderbook {
    let orderbook = Orderbook::connect(&OrderbookOptions {
        database_url: database_url.to_owned(),
        application_name: "reservations-test".to_owned(),
        max_connections: 2,
        holds_connections: false,
        acquire_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(5),
        idle_transaction_timeout: Duration::from_secs(5),
    })
    .unwrap();
    orderbook.migrate().await.unwrap();
    let partition = partition_of(rig.voucher.to_string().as_bytes(), PARTITIONS);
    let from = Offset::new(0);
    let batch = LogBatch::of_events(vec![(from, rig.scheduled())], from.next());
    let (topic, skips) = (&rig.topics.events, SkipDecisions::default());
    let applied = orderbook.apply(topic, partition, from, &batch, &skips);
    applied.await.unwrap();
    orderbook
}
