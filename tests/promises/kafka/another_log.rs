//! The log is not the one that was folded, because it was made again, or cut and grown again. The fold does not
//! continue with it, and no orders are accepted for its sales.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, create_topics};
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually, until_unready};
use serde_json::Value;

async fn numbers(world: &World, voucher: VoucherId) -> Result<(Value, Value)> {
    let ledger = world.client.ledger(voucher).await?;
    Ok((ledger["available"].clone(), ledger["unpaid"].clone()))
}

/// Deletes the event topic and makes it again, while the services run.
pub(crate) async fn made_anew(world: &World) -> Result<()> {
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", setting("KAFKA_BROKERS"));
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    admin
        .delete_topics(&[&topics.events], &AdminOptions::new())
        .await?;
    let settings = KafkaSettings::new(setting("KAFKA_BROKERS"), "test");
    let partitions = setting("EVENT_PARTITIONS").parse()?;
    eventually("the topic is made anew", || async {
        create_topics(&settings, &topics, partitions, 1).await?;
        Ok(true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_made_anew_is_not_folded_and_its_sales_take_no_orders() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    ensure!(answers.len() == 3, "{answers:?}");
    let before = world.quiet(voucher).await?;
    world.until_carried_out().await?;

    world.projector.stop()?;
    world.ingress.stop()?;
    made_anew(&world).await?;
    // Write more records than the view has folded, so that the position alone does not show the difference.
    let foreign = ForeignProducer::of(&world)?;
    for _ in 0..20 {
        foreign.misfile_restock(voucher).await?;
    }
    world.ingress.restart(&[])?;
    world.projector.relaunch(&[])?;
    until_unready(&world.projector, "is another one than was folded").await?;

    // Its sale is shut shortly after that, before its stock is changed.
    let shut_within = Instant::now() + Duration::from_secs(5);
    loop {
        let late = world.client.order(voucher, 9, None, 1).await?;
        if late.status == 503 {
            break;
        }
        ensure!(Instant::now() < shut_within, "it sells on: {late:?}");
    }
    let after = numbers(&world, voucher).await?;
    ensure!(
        after.0 == before["available"] && after.1 == before["unpaid"],
        "{after:?}"
    );
    let pool = world.database().await?;
    let skipped: i64 = sqlx::query_scalar("SELECT count(*) FROM skipped_records")
        .fetch_one(&pool)
        .await?;
    ensure!(
        skipped == 0,
        "its records are not folded, and not passed over"
    );

    // The tool that compares does not accept it as the view's log either.
    let refused = world.refused(&["reconcile", "--allow-removal"])?;
    ensure!(refused.contains("another"), "{refused}");
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    ensure!(kept == 3, "promised orders stand");
    Ok(())
}
