//! A record with a schema that the running version does not know stops its partition, until a version that can read it
//! is rolled out or an operator decides about it. Everything that reads the log gets the same result.

use std::time::Duration;

use anyhow::{Result, ensure};
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_tests::{
    ForeignProducer, SaleTerms, World, check_consistency, until_ready, until_unready,
};

use crate::kafka::same_end::all_come_to_the_same_end;

/// A payload in Avro's single-object encoding, with a fingerprint that no schema has.
pub(crate) fn of_unknown_schema() -> Vec<u8> {
    [&[0xC3, 0x01][..], &[7; 8], b"what it says"].concat()
}

async fn metric(world: &World, line: &str) -> Result<bool> {
    let url = format!("{}/metrics", world.projector.admin_url());
    let text = reqwest::get(url).await?.text().await?;
    Ok(text.lines().any(|found| found == line))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_an_unknown_schema_stops_its_partition_until_an_operator_decides() -> Result<()>
{
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let mut answers = vec![world.client.order(voucher, 1, None, 1).await?];
    world.quiet(voucher).await?;
    let foreign = ForeignProducer::of(&world)?;
    let offset = foreign.write_as(voucher, &of_unknown_schema()).await?;
    let place = format!("{}/{offset}", foreign.home_of(voucher));
    answers.push(world.client.order(voucher, 2, None, 1).await?);
    ensure!(answers[1].status == 202, "orders are taken meanwhile");

    until_unready(&world.projector, "unknown schema fingerprint").await?;
    until_unready(&world.projector, "seckillctl dlq skip").await?;
    let home = foreign.home_of(voucher);
    let line =
        format!("seckill_fold_stands_still{{partition=\"{home}\",cause=\"unknown-schema\"}} 1");
    ensure!(metric(&world, &line).await?, "no metric says so");
    let pool = world.database().await?;
    let skipped =
        || sqlx::query_scalar::<_, i64>("SELECT count(*) FROM skipped_records").fetch_one(&pool);
    let folded: i64 = sqlx::query_scalar("SELECT count(*) FROM orders")
        .fetch_one(&pool)
        .await?;
    ensure!(
        (skipped().await?, folded) == (0, 1),
        "it is neither buried nor passed"
    );
    // The tools do not compare records that they cannot read, and change nothing.
    let refused = world.refused(&["reconcile"])?;
    ensure!(
        refused.contains("cannot be read by this version"),
        "{refused}"
    );

    world.execute(&["dlq", "skip", &place])?;
    world.quiet(voucher).await?;
    until_ready(&world.projector).await?;
    world.until_carried_out().await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    ensure!(found.unpaid == 2, "{found:?}");
    ensure!(skipped().await? == 1);
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let letters = read_all(&settings, &topics.dead_letters, Duration::from_secs(30)).await?;
    ensure!(letters.len() == 1 && letters[0].payload == Some(of_unknown_schema()));

    all_come_to_the_same_end(&mut world, voucher, 1).await?;
    check_consistency(&world, voucher, &answers).await?;
    Ok(())
}
