//! The topics do not have the settings or partitions that the design needs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use seckill_eventlog::Topics;
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::{Service, TestStack, unique_prefix};
use seckill_tests::{Answer, Crowd, Runbook, SaleTerms, World, check_consistency, eventually};

/// Longer than any client of this project caches the metadata of a topic.
const METADATA_AGE: Duration = Duration::from_secs(6);

fn admin(world: &World) -> Result<AdminClient<DefaultClientContext>> {
    let brokers = world.stack.setting("KAFKA_BROKERS");
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_were_added_to_the_topic_lose_no_order() -> Result<()> {
    let mut world = World::start()?;
    let mut sales = Vec::new();
    for _ in 0..6 {
        sales.push(world.sale(SaleTerms::of(10_000)).await?);
    }
    let crowds: Vec<_> = sales
        .iter()
        .map(|voucher| Crowd::come(std::slice::from_ref(&world.client), *voucher, 1..10_001))
        .collect();
    for crowd in &crowds {
        crowd.flows(5).await?;
    }
    let events = Topics::new(world.stack.setting("TOPIC_PREFIX")).events;
    let wider = [NewPartitions::new(&events, 24)];
    for altered in admin(&world)?
        .create_partitions(&wider, &AdminOptions::new())
        .await?
    {
        altered.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let altered_at = Instant::now();
    eventually("the projector has the new partitions", || async {
        let output = world.projector.output()?;
        Ok(output.lines().any(|line| {
            line.contains("partition assigned")
                && (line.contains("partition=23") || line.contains("\"partition\":23"))
        }))
    })
    .await?;
    eventually("every client knows of them", || async {
        Ok(altered_at.elapsed() > METADATA_AGE)
    })
    .await?;
    for crowd in &crowds {
        crowd.flows(5).await?;
    }
    // This also holds for a sale that is put up now.
    let late = world.sale(SaleTerms::of(10)).await?;
    assert!(world.client.order(late, 1, None, 1).await?.is_reserved());

    for (crowd, voucher) in crowds.into_iter().zip(&sales) {
        let answers = crowd.leave().await?;
        world.quiet(*voucher).await?;
        let found = check_consistency(&world, *voucher, &answers).await?;
        assert_eq!(found.rejected, 0);
    }
    world.quiet(late).await?;
    tokio::task::block_in_place(|| the_tools_go_on_and_a_start_is_refused(&mut world, &events))
}

fn the_tools_go_on_and_a_start_is_refused(world: &mut World, events: &str) -> Result<()> {
    let check = world
        .stack
        .seckillctl(&["topics", "check"])
        .expect_err("it is refused");
    let check = format!("{check:#}");
    for said in [
        events,
        "has 24 partitions",
        "EVENT_PARTITIONS is 4",
        "docs/topics.md",
    ] {
        assert!(check.contains(said), "{said} in {check}");
    }
    let lag = world.stack.seckillctl(&["topics", "lag"])?;
    assert!(lag.contains("LOG END"), "{lag}");
    world.stack.seckillctl(&["rebuild", "orders", "check"])?;
    world.stack.seckillctl(&["reconcile"])?;

    world.timeout.relaunch(&[])?;
    let refused = world.timeout.wait_for_exit(Duration::from_secs(30))?;
    assert_eq!(refused.code(), Some(1));
    let output = world.timeout.output()?;
    assert!(output.contains("has 24 partitions"), "{output}");
    Ok(())
}

/// The steps are in docs/topics.md.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_to_which_partitions_were_added_is_moved_back_as_the_page_has_it() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = world.client.orders(voucher, 1..6).await;
    let order_of = |answer: &Answer| answer.order_id().map(str::to_owned).context("an order id");
    let (paid, cancelled) = (order_of(&answers[0])?, order_of(&answers[1])?);
    world.quiet(voucher).await?;
    world.client.pay(&paid, "p1", 1_000).await?;
    world.client.cancel(2, &cancelled).await?;
    world.until_status(1, &paid, "paid").await?;
    world.until_status(2, &cancelled, "cancelled").await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;

    let events = Topics::new(world.stack.setting("TOPIC_PREFIX")).events;
    let admin = admin(&world)?;
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)));
    let wider = [NewPartitions::new(&events, 24)];
    admin.create_partitions(&wider, &options).await?;
    for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
        service.stop()?;
    }
    let page = Runbook::at("docs/topics.md")?
        .with("spare.", &unique_prefix())?
        .with("topic seckill.order-events.v1", &format!("topic {events}"))?;
    for block in page.blocks() {
        if block.starts_with("kafka-topics") {
            admin.delete_topics(&[&events], &options).await?;
            eventually("it is gone", || async {
                let known = admin
                    .inner()
                    .fetch_metadata(Some(&events), Duration::from_secs(5))?;
                Ok(known.topics().iter().all(|topic| topic.error().is_some()))
            })
            .await?;
        } else {
            tokio::task::block_in_place(|| page.run_block(&world, &block))?;
        }
    }
    tokio::task::block_in_place(|| {
        world.projector.restart(&[])?;
        world.timeout.restart(&[])?;
        world.ingress.restart(&[])
    })?;
    world.until_served(voucher).await?;
    let again = world.client.order(voucher, 2, None, 1).await?;
    assert!(again.is_reserved(), "{again:?}");
    world.until_status(1, &paid, "paid").await?;
    world.until_status(2, &order_of(&again)?, "unpaid").await?;
    answers.push(again);
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!((found.paid, found.unpaid, found.rejected), (1, 4, 0));
    Ok(())
}

/// The commands that a refusal tells the operator to run.
fn commands(refusal: &str) -> Vec<&str> {
    let lines = refusal.lines().map(str::trim);
    lines
        .filter(|line| line.starts_with("kafka-configs"))
        .collect()
}

#[test]
fn a_topic_that_would_lose_records_is_refused_until_the_command_it_names_was_run() -> Result<()> {
    let stack = TestStack::start()?;
    let events = Topics::new(stack.setting("TOPIC_PREFIX")).events;
    let brokers = stack.setting("KAFKA_BROKERS");
    run_kafka_configs(&format!(
        "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics --entity-name {events} \
         --add-config cleanup.policy=compact,retention.ms=604800000"
    ))?;
    for spec in [
        stack.ingress(&[])?,
        stack.projector(&[])?,
        stack.timeout(&[])?,
    ] {
        let mut service = Service::launch(spec)?;
        let ended = service.wait_for_exit(Duration::from_secs(30))?;
        let output = service.output()?;
        assert_eq!(ended.code(), Some(1), "{output}");
        let named = format!("{events}: cleanup.policy is compact, and has to be delete");
        assert!(output.contains(&named), "{output}");
    }
    for command in ["create", "check"] {
        let refusal = stack.seckillctl(&["topics", command]).unwrap_err();
        let refusal = format!("{refusal:#}");
        assert!(refusal.contains("retention.ms is 604800000"), "{refusal}");
        assert_eq!(commands(&refusal).len(), 1, "{refusal}");
    }
    let refusal = stack.seckillctl(&["topics", "check"]).unwrap_err();
    for command in commands(&format!("{refusal:#}")) {
        run_kafka_configs(command)?;
    }
    stack.seckillctl(&["topics", "check"])?;
    stack.start_timeout(&[])?;
    Ok(())
}
