//! A schema registry: records that were written before it was used, with it, and while it did not answer are one log
//! that everything can read. At an unknown id the fold stops, and the record does not become a dead letter.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_domain::{Event, EventBody, EventId, Timestamp, VoucherId};
use seckill_eventlog::{
    KafkaSettings, Record, RegistrySettings, SchemaRegistry as Client, Topics, encode_event,
    learn_schema_ids, read_all,
};
use seckill_testkit::service::run_binary;
use seckill_testkit::{Env, SchemaRegistry, TestStack};
use seckill_tests::{
    Answer, ForeignProducer, SaleTerms, World, check_consistency, eventually, until_ready,
    until_unready,
};
use uuid::Uuid;

use crate::kafka::consumers::{Example, LANGUAGES};
use crate::kafka::same_end::all_come_to_the_same_end;

pub(crate) const URL: &str = "SCHEMA_REGISTRY_URL";

fn seckillctl(stack: &TestStack, command: &[&str]) -> Result<String> {
    tokio::task::block_in_place(|| run_binary("seckillctl", command, stack.env()))
}

/// The settings with which this process reads the log, like the consistency check.
pub(crate) async fn learn(stack: &TestStack) -> Result<(KafkaSettings, Topics)> {
    let registry = Client::new(&RegistrySettings {
        url: stack.setting(URL).to_owned(),
        login: None,
        ca: None,
    });
    let settings = KafkaSettings {
        registry: Some(registry.map_err(anyhow::Error::msg)?),
        ..KafkaSettings::new(stack.setting("KAFKA_BROKERS"), "test")
    };
    let topics = Topics::new(stack.setting("TOPIC_PREFIX"));
    learn_schema_ids(&settings, &topics).await?;
    Ok((settings, topics))
}

async fn records(stack: &TestStack, topic: &str) -> Result<Vec<Record>> {
    let settings = KafkaSettings::new(stack.setting("KAFKA_BROKERS"), "test");
    Ok(read_all(&settings, topic, Duration::from_secs(30)).await?)
}

/// How many records begin with Avro's marker, and how many with a registry's id.
fn framings(records: &[Record]) -> (usize, usize) {
    let first =
        |byte| move |record: &&Record| record.payload.as_deref().is_some_and(|p| p[0] == byte);
    let count = |byte| records.iter().filter(first(byte)).count();
    (count(0xC3), count(0x00))
}

/// Restarts services that were started without a registry, now with it.
pub(crate) fn restart_with(world: &mut World, url: &str) -> Result<()> {
    for service in [&mut world.ingress, &mut world.projector, &mut world.timeout] {
        tokio::task::block_in_place(|| service.stop())?;
        service.relaunch(&[(URL, Some(url))])?;
    }
    Ok(())
}

/// Places orders before and after the services use a registry.
pub(crate) async fn trade_across(
    world: &mut World,
    url: &str,
    voucher: VoucherId,
) -> Result<Vec<Answer>> {
    let mut answers = world.client.orders(voucher, 1..4).await;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    restart_with(world, url)?;
    for service in [&world.ingress, &world.projector, &world.timeout] {
        until_ready(service).await?;
    }
    answers.extend(world.client.orders(voucher, 4..7).await);
    ensure!(
        answers.len() == 6 && answers.iter().all(Answer::is_reserved),
        "{answers:?}"
    );
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_both_framings_is_one_log_for_all_who_read_it() -> Result<()> {
    let mut registry = SchemaRegistry::start()?;
    let stack = TestStack::builder().setting(URL, &registry.url()).start()?;
    seckillctl(&stack, &["schemas", "register"])?;
    let (_, topics) = learn(&stack).await?;
    let mut world = World::on(stack, &[(URL, "")])?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = trade_across(&mut world, &registry.url(), voucher).await?;

    registry.go_away();
    answers.extend(world.client.orders(voucher, 7..10).await);
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    for topic in [&topics.events, &topics.outcomes] {
        let written = records(&world.stack, topic).await?;
        let (before, since) = framings(&written);
        ensure!(
            before + since == written.len() && before >= 4 && since >= 6,
            "{before} {since}"
        );
    }
    // A reader that has seen no id yet asks the registry.
    registry.come_back()?;
    let order = answers[5].order_id().context("an order id")?.to_owned();
    let timeline = seckillctl(&world.stack, &["order", "timeline", &order])?;
    ensure!(timeline.contains("SeckillReserved"), "{timeline}");
    all_come_to_the_same_end(&mut world, voucher, 0).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!((found.unpaid, found.available) == (9, 11), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_starts_without_its_registry_says_what_it_waits_for() -> Result<()> {
    let mut registry = SchemaRegistry::with_login("c2hvcDpodW50ZXIy")?;
    let url = registry.url();
    let login = |password| {
        [
            (URL, Some(&*url)),
            ("SCHEMA_REGISTRY_USERNAME", Some("shop")),
            ("SCHEMA_REGISTRY_PASSWORD", Some(password)),
        ]
    };
    let stack = TestStack::builder().start()?;
    let mut world = World::on(stack, &[])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    registry.go_away();
    let services = [&mut world.ingress, &mut world.projector, &mut world.timeout];
    for service in services {
        tokio::task::block_in_place(|| service.stop())?;
        service.relaunch(&login("hunter2"))?;
        until_unready(service, "schema-registry").await?;
        until_unready(service, "does not answer").await?;
    }
    registry.come_back()?;
    for service in [&world.ingress, &world.projector, &world.timeout] {
        until_unready(service, "seckillctl schemas register").await?;
    }
    tokio::task::block_in_place(|| world.timeout.stop())?;
    world.timeout.relaunch(&login("hunter3"))?;
    until_unready(&world.timeout, "401").await?;
    ensure!(
        !world.timeout.output()?.contains("hunter3"),
        "a password in a log"
    );

    let mut env = world.stack.env().clone();
    for (name, value) in login("hunter2") {
        env.insert(name.to_owned(), value.context("a value")?.to_owned());
    }
    tokio::task::block_in_place(|| run_binary("seckillctl", &["schemas", "register"], &env))?;
    for service in [&world.ingress, &world.projector] {
        until_ready(service).await?;
    }
    let answer = world.client.order(voucher, 1, None, 1).await?;
    ensure!(answer.is_reserved(), "{answer:?}");
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    examples_sign_in(&world, &env).await
}

/// The examples use the services' login.
async fn examples_sign_in(world: &World, env: &Env) -> Result<()> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let outcomes = records(&world.stack, &topics.outcomes).await?;
    ensure!(framings(&outcomes).1 > 0, "none is under an id");
    let login: Vec<(&str, &str)> = env
        .iter()
        .filter(|(name, _)| name.starts_with("SCHEMA_REGISTRY_"))
        .map(|(name, value)| (&**name, &**value))
        .collect();
    for language in LANGUAGES {
        let brokers = world.stack.setting("KAFKA_BROKERS");
        let example = Example::start_with(language, brokers, &topics.outcomes, &[], &login)?;
        let (_, skipped) = example.finish(outcomes.len(), 0).await?;
        ensure!(skipped.is_empty(), "{language:?}: {skipped:#?}");
    }
    Ok(())
}

/// The record has an id that the projector has never seen, and the registry does not answer. An ingress of a later
/// version may have written it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_stands_still_until_the_registry_tells_it_and_is_no_dead_letter() -> Result<()>
{
    let mut registry = SchemaRegistry::start()?;
    let stack = TestStack::builder().setting(URL, &registry.url()).start()?;
    seckillctl(&stack, &["schemas", "register"])?;
    let (_, topics) = learn(&stack).await?;
    let mut world = World::on(stack, &[])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let mut answers = vec![world.client.order(voucher, 1, None, 1).await?];
    world.quiet(voucher).await?;

    let id = registry.next_id();
    registry.go_away();
    let written = records(&world.stack, &topics.events).await?;
    let closed = closing(voucher);
    ensure!(framings(&written).0 == 0, "all under ids");
    let message = [&[0][..], &id.to_be_bytes(), &closed[10..]].concat();
    let offset = ForeignProducer::of(&world)?
        .write_as(voucher, &message)
        .await?;
    until_unready(&world.projector, &format!("unknown schema id {id}")).await?;
    until_unready(&world.projector, "does not answer").await?;
    registry.come_back()?;
    until_unready(&world.projector, "does not have it").await?;
    let place = format!("the record at {offset}");
    until_unready(&world.projector, &place).await?;
    let refused = world.refused(&["reconcile"])?;
    ensure!(
        refused.contains("cannot be read by this version"),
        "{refused}"
    );
    answers.push(world.client.order(voucher, 2, None, 1).await?);
    ensure!(
        answers.iter().all(Answer::is_reserved),
        "orders are taken meanwhile: {answers:?}"
    );

    // The same schema with another text: without its documentation.
    let text = r#"{"type":"record","name":"SaleClosed","namespace":"seckill.v1","fields":[{"name":"event_id","type":"string"},{"name":"voucher_id","type":"long"},{"name":"occurred_at","type":"long"}]}"#;
    ensure!(
        registry.add("another-subject", text)? == id,
        "the id that was written"
    );
    until_ready(&world.projector).await?;
    let pool = world.database().await?;
    eventually("the close is folded", || async {
        let sql = "SELECT closed_offset IS NOT NULL FROM vouchers WHERE voucher_id = $1";
        let row = sqlx::query_scalar(sql).bind(voucher.get());
        Ok(row.fetch_one(&pool).await?)
    })
    .await?;
    world.until_carried_out().await?;
    let late = world.client.order(voucher, 3, None, 1).await?;
    ensure!(late.status == 403, "the sale is closed: {late:?}");
    let letters = records(&world.stack, &topics.dead_letters).await?;
    ensure!(letters.is_empty(), "{letters:?}");
    let (settings, topics) = learn(&world.stack).await?;
    let read = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
    ensure!(
        read.iter()
            .all(|record| record.unknown_schema_id().is_none()),
        "one is unread"
    );
    all_come_to_the_same_end(&mut world, voucher, 0).await
}

fn closing(voucher: VoucherId) -> Vec<u8> {
    encode_event(&Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: voucher,
        occurred_at: Timestamp::from_micros(1),
        body: EventBody::SaleClosed,
    })
}
