//! Processes are killed by SIGKILL when one store already has a change and nobody was told. A repetition does nothing
//! twice.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_tests::{
    ForeignProducer, SaleTerms, World, arm, await_death, check_consistency, eventually, revive,
};
use serde_json::json;

const TWENTY: SaleTerms = SaleTerms::of(20);

/// The provider gets no answer and reports its payment again.
async fn payment_dies_at(point: &str) -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("an order id")?;
    arm(&mut world.ingress, point, "kill")?;
    let told = world.client.pay(order_id, "once", 1_000).await;
    assert!(told.is_err(), "{told:?}");
    await_death(&mut world.ingress, point)?;

    revive(&mut world.ingress)?;
    let again = world.client.pay(order_id, "once", 1_000).await?;
    assert_eq!(again.status, 202);
    let order = world.until_status(1, order_id, "paid").await?;
    world.quiet(voucher).await?;
    assert_ne!(order["refund_due"], true, "{order}");
    assert_eq!(check_consistency(&world, voucher, &[answer]).await?.paid, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_recorded_once_when_the_ingress_dies_before_the_ack() -> Result<()> {
    payment_dies_at("ingress.event.after-produce").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_is_recorded_once_when_the_ingress_dies_after_the_ack() -> Result<()> {
    payment_dies_at("ingress.event.after-ack").await
}

/// The buyer gets no answer. The units return once.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_returns_its_units_once_when_the_ingress_dies_after_the_ack() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("an order id")?;
    world.until_status(1, order_id, "unpaid").await?;
    let point = "ingress.event.after-ack";
    arm(&mut world.ingress, point, "kill")?;
    let told = world.client.cancel(1, order_id).await;
    assert!(told.is_err(), "{told:?}");
    await_death(&mut world.ingress, point)?;

    revive(&mut world.ingress)?;
    let again = world.client.cancel(1, order_id).await?;
    let known = again.status == 202 || again.problem() == "not-cancellable";
    assert!(known, "{again:?}");
    world.until_status(1, order_id, "cancelled").await?;
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(&world, voucher, &[answer])
            .await?
            .available,
        20
    );
    Ok(())
}

/// The event that the relay has published is published again, and is still one order.
#[tokio::test(flavor = "multi_thread")]
async fn a_reservation_becomes_one_order_when_the_relay_dies_between_the_ack_and_the_clearing()
-> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    arm(&mut world.ingress, "ingress.after-lua", "kill")?;
    let answers = world.client.orders(voucher, 1..2).await;
    await_death(&mut world.ingress, "ingress.after-lua")?;
    assert!(answers.is_empty());

    let point = "ingress.relay.after-produce";
    arm(&mut world.ingress, point, "kill")?;
    await_death(&mut world.ingress, point)?;
    revive(&mut world.ingress)?;
    let ledger = world.quiet(voucher).await?;
    assert_eq!(ledger["unpaid"], 1, "{ledger}");
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}

/// The record is read again, so its dead letter may be published twice, with the same source.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_name_one_source_when_the_projector_dies_before_it_stores_its_position()
-> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(TWENTY).await?;
    let point = "projector.after-dead-letter";
    arm(&mut world.projector, point, "kill")?;
    let brokers = world.stack.setting("KAFKA_BROKERS");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    ForeignProducer::of(&world)?
        .write_as(voucher, b"garbage")
        .await?;
    let settings = KafkaSettings::new(brokers, "test");
    await_death(&mut world.projector, point)?;

    revive(&mut world.projector)?;
    let answers = world.client.orders(voucher, 1..6).await;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    assert_eq!(
        check_consistency(&world, voucher, &answers).await?.unpaid,
        5
    );
    let letters = read_all(&settings, &topics.dead_letters, Duration::from_secs(30)).await?;
    let mut sources = HashSet::new();
    for letter in &letters {
        assert_eq!(letter.payload.as_deref(), Some(&b"garbage"[..]));
        let of = |name: &str| letter.header(name).map(<[u8]>::to_vec);
        sources.insert((of("__dlq.errors.partition"), of("__dlq.errors.offset")));
    }
    assert_eq!(sources.len(), 1, "{letters:?}");
    Ok(())
}

/// Redis no longer has the sale, and PostgreSQL does not know that. The sale is loaded again, and then retired.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_retired_when_the_projector_dies_between_redis_and_postgresql() -> Result<()> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(TWENTY).await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order_id = answer.order_id().context("an order id")?;
    world.client.pay(order_id, "p", 1_000).await?;
    world.until_status(1, order_id, "paid").await?;
    let point = "projector.retire.after-redis";
    arm(&mut world.projector, point, "kill")?;
    let close = format!("/admin/v1/vouchers/{voucher}/close");
    let told = world.client.admin_post(&close, &json!({})).await?;
    assert_eq!(told.status, 202);
    await_death(&mut world.projector, point)?;
    let between = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!((between.status, between.problem()), (503, "unavailable"));

    revive(&mut world.projector)?;
    eventually("PostgreSQL says that it has ended", || async {
        let late = world.client.order(voucher, 3, None, 1).await?;
        Ok((late.status, late.problem()) == (403, "ended"))
    })
    .await?;
    let order = world.until_status(1, order_id, "paid").await?;
    assert_ne!(order["refund_due"], true, "{order}");
    world.until_carried_out().await
}
