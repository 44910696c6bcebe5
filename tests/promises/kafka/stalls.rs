//! A fold that has records to fold and makes no progress is not ready and reports it, although every store answers.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use seckill_domain::VoucherId;
use seckill_eventlog::Topics;
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually, until_ready, until_unready};

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_does_not_move_is_not_ready_and_names_its_partition() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    ensure!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    world.quiet(voucher).await?;
    let pool = world.database().await?;
    let mut held = pool.begin().await?;
    // While this transaction is open, no fold can move its position.
    sqlx::query("SELECT FROM view_positions WHERE view = 'orders' FOR UPDATE")
        .execute(&mut *held)
        .await?;
    ensure!(world.client.order(voucher, 2, None, 1).await?.is_reserved());
    until_unready(&world.projector, "has not moved").await?;
    until_unready(&world.projector, "1 behind the log").await?;

    held.rollback().await?;
    until_ready(&world.projector).await?;
    let ledger = world.quiet(voucher).await?;
    ensure!(ledger["unpaid"] == 2, "{ledger}");
    Ok(())
}

/// A member of the projectors' group that does not read its partitions.
fn idle_member(world: &World) -> Result<BaseConsumer> {
    let prefix = world.stack.setting("TOPIC_PREFIX");
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", world.stack.setting("KAFKA_BROKERS"))
        .set("group.id", format!("{prefix}seckill-projector"))
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()?;
    member.subscribe(&[&Topics::new(prefix).events])?;
    Ok(member)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_nobody_folds_makes_every_projector_not_ready() -> Result<()> {
    let world = World::start()?;
    let foreign = ForeignProducer::of(&world)?;
    let mut sales = Vec::new();
    let mut homes = HashSet::new();
    while homes.len() < usize::try_from(foreign.partitions())? {
        let voucher = world.sale(SaleTerms::of(10)).await?;
        homes.insert(foreign.home_of(voucher));
        sales.push(voucher);
    }
    let member = idle_member(&world)?;
    let given = || -> Result<HashSet<i32>> {
        let given = member.assignment()?;
        Ok(given
            .elements()
            .iter()
            .map(TopicPartitionListElem::partition)
            .collect())
    };
    eventually("the group gives it partitions", || async {
        let _ = member.poll(Duration::from_millis(10));
        Ok(!given()?.is_empty())
    })
    .await?;
    let taken = given()?;
    let is_taken = |voucher: &&VoucherId| taken.contains(&foreign.home_of(**voucher));
    let voucher = *sales
        .iter()
        .find(is_taken)
        .context("a sale of those partitions")?;
    // Redis still serves the sale, and its orders are written to the log.
    let order = world.client.order(voucher, 1, None, 1).await?;
    ensure!(order.is_reserved(), "{order:?}");
    until_unready(&world.projector, "has not moved").await?;
    until_unready(
        &world.projector,
        &format!("partition {}", foreign.home_of(voucher)),
    )
    .await?;

    drop(member);
    until_ready(&world.projector).await?;
    let ledger = world.quiet(voucher).await?;
    ensure!(ledger["unpaid"] == 1, "{ledger}");
    Ok(())
}
