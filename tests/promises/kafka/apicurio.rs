//! The tests of a schema registry with another product: Apicurio, with the part of its API that is compatible with
//! Confluent's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_eventlog::read_all;
use seckill_testkit::service::run_binary;
use seckill_testkit::{Apicurio, TestStack, shared_kafka};
use seckill_tests::{
    Answer, ForeignProducer, SaleTerms, World, check_consistency, until_ready, until_unready,
};

use crate::kafka::consumers::{Example, LANGUAGES};
use crate::kafka::same_end::all_come_to_the_same_end;
use crate::kafka::schema_registry::{URL, learn, trade_across};

/// An id that it does not give to the first few schemas.
const NOT_GIVEN: u32 = 4_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: fetches and starts a schema registry"]
async fn a_log_from_before_with_and_without_the_registry_is_one_log() -> Result<()> {
    let brokers = tokio::task::spawn_blocking(shared_kafka).await??;
    let mut registry = tokio::task::block_in_place(|| Apicurio::start(&brokers))?;
    let url = registry.url();
    let stack = TestStack::builder().setting(URL, &url).start()?;
    let schemas = |command| {
        let command = ["schemas", command, "--output", "json"];
        let text = tokio::task::block_in_place(|| run_binary("seckillctl", &command, stack.env()))?;
        let found: Vec<serde_json::Value> = serde_json::from_str(&text)?;
        let registered = found.iter().filter(|schema| schema["id"].is_u64());
        Ok::<_, anyhow::Error>((registered.count(), found.len()))
    };
    ensure!(schemas("check")? == (0, 13), "nothing is registered yet");
    ensure!(schemas("register")? == (13, 13) && schemas("check")? == (13, 13));
    let (settings, topics) = learn(&stack).await?;
    let mut world = World::on(stack, &[(URL, "")])?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = trade_across(&mut world, &url, voucher).await?;
    let order = answers[5].order_id().context("an order id")?.to_owned();
    let timeline = world.seckillctl(&["order", "timeline", &order])?;
    ensure!(timeline.contains("SeckillReserved"), "{timeline}");

    let idle = Duration::from_secs(30);
    let published = read_all(&settings, &topics.outcomes, idle).await?.len();
    let mut printed = Vec::new();
    for language in LANGUAGES {
        let more = [&*format!("--registry={url}")];
        let example = Example::start_with(language, &brokers, &topics.outcomes, &more, &[])?;
        let (lines, skipped) = example.finish(published, 0).await?;
        ensure!(skipped.is_empty(), "{language:?}: {skipped:#?}");
        printed.push(lines);
    }
    printed.dedup();
    ensure!(
        printed.len() == 1 && printed[0].len() == published,
        "{printed:#?}"
    );

    registry.kill()?;
    answers.push(world.client.order(voucher, 7, None, 1).await?);
    world.quiet(voucher).await?;
    let message = [&[0][..], &NOT_GIVEN.to_be_bytes(), b"what it says"].concat();
    let foreign = ForeignProducer::of(&world)?;
    let offset = foreign.write_as(voucher, &message).await?;
    answers.push(world.client.order(voucher, 8, None, 1).await?);
    ensure!(answers.iter().all(Answer::is_reserved), "{answers:?}");
    until_unready(&world.projector, &format!("unknown schema id {NOT_GIVEN}")).await?;
    until_unready(&world.projector, "does not answer").await?;
    tokio::task::block_in_place(|| registry.restart())?;
    until_unready(&world.projector, "does not have it").await?;
    let letters = read_all(&settings, &topics.dead_letters, idle).await?;
    ensure!(letters.is_empty(), "{letters:?}");

    let place = format!("{}/{offset}", foreign.home_of(voucher));
    world.execute(&["dlq", "skip", &place])?;
    until_ready(&world.projector).await?;
    world.quiet(voucher).await?;
    all_come_to_the_same_end(&mut world, voucher, 1).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!((found.unpaid, found.available) == (8, 12), "{found:?}");
    Ok(())
}
