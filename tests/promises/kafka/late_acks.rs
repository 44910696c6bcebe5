//! The broker writes records, but its acks come too late for the promise deadline, or even later than the producer's
//! delivery time-out.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_domain::{EventBody, OrderId, VoucherId};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::{Kafka, TestStack};
use seckill_tests::{SaleTerms, SlowWire, World, check_consistency, eventually};

/// The number of reservations of each order of a sale in the log.
async fn copies(world: &World, voucher: VoucherId) -> Result<HashMap<OrderId, usize>> {
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "copies");
    let records = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    let mut by_order = HashMap::new();
    for record in &records {
        let event = record.event(setting("EVENT_PARTITIONS").parse()?)?;
        if let (EventBody::SeckillReserved(reserved), true) =
            (&event.body, event.voucher_id == voucher)
        {
            *by_order.entry(reserved.order_id).or_insert(0) += 1;
        }
    }
    Ok(by_order)
}

/// Two buyers order before acks are delayed by `delay`, one buyer while they are, and one after that. The promise
/// deadline is half a second. Returns how often the log has the reservation of the third buyer, and of each of the
/// others.
async fn acks_are_late_by(delay: Duration) -> Result<(usize, Vec<usize>)> {
    let mut wire = SlowWire::bind().await?;
    let port = wire.port();
    // The broker also answers on its own port, before the wire exists.
    let broker = Kafka::behind_proxy(port)?;
    wire.lead_to(broker.own_address());
    let stores = TestStack::builder().kafka(broker);
    let mut world = World::over(stores, &[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let mut answers = world.client.orders(voucher, 1..3).await;
    assert!(answers.iter().all(|a| a.status == 202), "{answers:?}");

    wire.delay_answers(delay);
    let slow_since = Instant::now();
    let caught = world.client.order(voucher, 3, Some("k"), 1).await?;
    assert_eq!(
        (caught.status, &caught.body["status"]),
        (202, &"pending".into()),
        "no promise"
    );
    let order_id = caught.order_id().context("no order id")?;
    // Meanwhile a request with the same key gets the same answer, and takes no more units.
    eventually("the ack is due", || async {
        let again = world.client.order(voucher, 3, Some("k"), 1).await?;
        if again.status == 202 {
            assert_eq!(again.order_id(), Some(order_id), "{again:?}");
        } else {
            assert_eq!(again.problem(), "unavailable", "{again:?}");
        }
        Ok(slow_since.elapsed() > delay + Duration::from_millis(500))
    })
    .await?;
    wire.delay_answers(Duration::ZERO);

    let healed = Instant::now();
    // An ingress ends if other clients get answers and its producer does not. It is started again.
    let path = format!("/api/v1/orders/{order_id}");
    let is_unpaid = async |world: &World| {
        let order = world.client.get(3, &path).await?;
        Ok(order.body["status"] == "unpaid")
    };
    world
        .eventually_under_supervision("the order is unpaid", is_unpaid)
        .await?;
    eventually("the same key says reserved", || async {
        let again = world.client.order(voucher, 3, Some("k"), 1).await?;
        Ok(again.is_reserved() && again.order_id() == Some(order_id))
    })
    .await?;
    eventually("somebody else gets a promise", || async {
        Ok(world
            .client
            .order(voucher, 4, Some("k"), 1)
            .await?
            .is_reserved())
    })
    .await?;
    let recovered_ms = healed.elapsed().as_millis();
    answers.push(caught.clone());
    answers.push(world.client.order(voucher, 4, Some("k"), 1).await?);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.rejected), (4, 0));
    let mut copies = copies(&world, voucher).await?;
    let of_caught = copies.remove(&order_id.parse()?).unwrap_or_default();
    let of_others: Vec<usize> = copies.into_values().collect();
    println!(
        "case acks late by {} ms: copies={of_caught} of_others={of_others:?} recovered_ms={recovered_ms}",
        delay.as_millis()
    );
    Ok((of_caught, of_others))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a broker of its own"]
async fn an_ack_after_the_promise_deadline_leaves_one_copy_in_the_log() -> Result<()> {
    let copies = acks_are_late_by(Duration::from_millis(1_500)).await?;
    assert_eq!(copies, (1, vec![1, 1, 1]));
    Ok(())
}

/// The producer gives up on the record after five seconds, the relay publishes it again after up to three more, and
/// both copies are in the log, but only for the order whose ack was late.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits out the delivery timeout"]
async fn an_ack_after_the_delivery_timeout_leaves_two_copies_in_the_log() -> Result<()> {
    let copies = acks_are_late_by(Duration::from_secs(10)).await?;
    assert_eq!(copies, (2, vec![1, 1, 1]));
    Ok(())
}
