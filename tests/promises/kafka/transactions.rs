//! Another producer writes into the event topic in transactions. The project does not use transactions, but has to work
//! with them.

use std::time::Duration;

use anyhow::{Context, Error, Result};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use seckill_domain::VoucherId;
use seckill_eventlog::Topics;
use seckill_tests::{
    ForeignProducer, Injection, SaleTerms, Victim, World, check_consistency, eventually,
};
use serde_json::Value;

use crate::operators::reconcile::alarms;

const SOON: Duration = Duration::from_secs(30);

/// Leaves a transaction open in the partition of a sale, with one record that is not an event.
fn transaction(world: &World, voucher: VoucherId) -> Result<BaseProducer> {
    let topic = Topics::new(world.stack.setting("TOPIC_PREFIX")).events;
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", world.stack.setting("KAFKA_BROKERS"))
        .set("transactional.id", &topic)
        .create()?;
    producer.init_transactions(SOON)?;
    producer.begin_transaction()?;
    let home = ForeignProducer::of(world)?.home_of(voucher);
    let record = BaseRecord::to(&topic).key("nobody's").payload("nothing");
    let sent = producer.send(record.partition(home));
    sent.map_err(|(error, _)| error)?;
    producer.flush(SOON)?;
    Ok(producer)
}

fn lag(world: &World) -> Result<Value> {
    let printed = world
        .stack
        .seckillctl(&["topics", "lag", "--output", "json"])?;
    serde_json::from_str(&printed).context(printed)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_left_open_holds_no_order_back_and_its_end_is_no_lag() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let open = tokio::task::block_in_place(|| transaction(&world, voucher))?;
    let order = world.client.order(voucher, 1, None, 1).await?;
    assert!(order.is_reserved(), "{order:?}");
    let order_id = order.order_id().context("an order id")?;
    world.until_status(1, order_id, "unpaid").await?;
    world.quiet(voucher).await?;
    // A repair sees the order too, and removes nothing.
    let before = world.contents(voucher).await?;
    let compared = world.execute(&["reconcile", "--allow-removal"])?;
    assert!(compared.contains("0 differences"), "{compared}");
    assert_eq!(world.contents(voucher).await?, before);

    tokio::task::block_in_place(|| open.commit_transaction(SOON))?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    eventually("no view is behind", || async {
        let lag = tokio::task::block_in_place(|| lag(&world))?;
        let events = |view: &str| lag["all"][view]["events"] == 0;
        anyhow::ensure!(events("fold_lag") && events("effects_lag"), "{lag}");
        Ok(true)
    })
    .await?;
    let overview = world.client.admin_get("/admin/v1/overview").await?;
    assert_eq!(overview.body["fold"]["events"], 0, "{overview:?}");
    tokio::task::block_in_place(|| {
        world.stack.seckillctl(&["rebuild", "orders", "check"])?;
        world.stack.seckillctl(&["reconcile"])
    })?;
    Ok(())
}

/// The last offset is the end of a transaction, and belongs to no record.
#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_proved_behind_a_transactions_end() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    let victim = Victim::of(&world, voucher, 1_000).await?;
    world.quiet(voucher).await?;
    tokio::task::block_in_place(|| {
        transaction(&world, voucher)?
            .commit_transaction(SOON)
            .map_err(Error::from)
    })?;
    world.until_carried_out().await?;
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    Injection::OrphanGrant
        .inject(&pool, &mut redis, &victim)
        .await?;

    eventually("the projector's consistency check proves it", || async {
        Ok(alarms(&world).await?.contains_key("orphan-hold"))
    })
    .await?;
    let done = world.execute(&["reconcile", "--allow-removal"])?;
    assert!(done.contains("1 of these offsets hold no record"), "{done}");
    assert!(done.contains("0 differences are left"), "{done}");
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[]).await?;
    eventually("the consistency check finds nothing", || async {
        Ok(alarms(&world).await?.is_empty())
    })
    .await
}
