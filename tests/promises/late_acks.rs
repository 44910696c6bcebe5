//! The broker writes what it is sent, and its acks come too late: for the promise, or even for the
//! producer, which gives the record up.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_domain::{EventBody, VoucherId};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::{Kafka, TestStack};
use seckill_tests::{SaleTerms, SlowWire, World, audit, eventually};

/// How often the log has the reservation of each order of a sale, the most often first.
async fn copies(world: &World, voucher: VoucherId) -> Result<Vec<usize>> {
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "copies");
    let records = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    let mut by_order = std::collections::HashMap::new();
    for record in &records {
        let event = record.event(setting("EVENT_PARTITIONS").parse()?)?;
        if let (EventBody::SeckillReserved(reserved), true) =
            (&event.body, event.voucher_id == voucher)
        {
            *by_order.entry(reserved.order_id).or_insert(0) += 1;
        }
    }
    let mut counts: Vec<usize> = by_order.into_values().collect();
    counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
    Ok(counts)
}

/// Five buyers while acks take `delay`; the promise is due after half a second. The broker can be reached as
/// long as the wire is kept.
async fn acks_are_late_by(delay: Duration) -> Result<(World, VoucherId, SlowWire)> {
    let mut wire = SlowWire::bind().await?;
    let port = wire.port();
    // The broker answers itself on its own port before the wire is there.
    let broker = Kafka::behind_proxy(port)?;
    wire.lead_to(broker.own_address());
    let stores = TestStack::builder().kafka(broker);
    let world = World::over(stores, &[("PROMISE_DEADLINE_MS", "500")])?;
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
    // While it lasts the same key says nothing else, and takes nothing more.
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
    world.until_status(3, order_id, "unpaid").await?;
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
    answers.push(caught);
    answers.push(world.client.order(voucher, 4, Some("k"), 1).await?);
    world.quiet(voucher).await?;
    let found = audit(&world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.rejected), (4, 0));
    println!(
        "case acks late by {} ms: copies={:?} recovered_ms={recovered_ms}",
        delay.as_millis(),
        copies(&world, voucher).await?
    );
    Ok((world, voucher, wire))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a broker of its own"]
async fn acks_that_come_after_the_promise_deadline() -> Result<()> {
    let (world, voucher, _wire) = acks_are_late_by(Duration::from_millis(1_500)).await?;
    assert_eq!(copies(&world, voucher).await?, [1, 1, 1, 1]);
    Ok(())
}

/// The producer gives the record up after five seconds, the relay publishes it again, and both are
/// in the log.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: waits out the delivery timeout"]
async fn acks_that_come_after_the_delivery_timeout() -> Result<()> {
    let (world, voucher, _wire) = acks_are_late_by(Duration::from_secs(8)).await?;
    let copies = copies(&world, voucher).await?;
    assert_eq!(copies.len(), 4, "{copies:?}");
    Ok(())
}
