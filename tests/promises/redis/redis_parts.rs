//! Redis loses a part of its data while orders come in: the sale is refused within a second, and opens again without
//! any action.

use anyhow::Result;
use seckill_domain::VoucherId;
use seckill_testkit::{Redis, TestStack};
use seckill_tests::{Crowd, Outage, SaleTerms, World, check_consistency};

const LARGE: SaleTerms = SaleTerms::of(20_000);

const SETTINGS: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "1000")];

fn crowd(world: &World, voucher: VoucherId) -> Crowd {
    Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001)
}

/// Waits until orders are accepted again, ends the crowd, and checks every invariant.
async fn recovers(world: &World, outage: &Outage, case: &str, crowd: Crowd) -> Result<()> {
    crowd.flows(20).await?;
    let answers = crowd.leave().await?;
    world.quiet(outage.voucher()).await?;
    check_consistency(world, outage.voucher(), &answers).await?;
    outage.report(world, case).await?;
    Ok(())
}

/// Deletes one key. The server and its fence stay the same.
async fn a_key_is_deleted(part: &str) -> Result<()> {
    let world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    let mut redis = world.redis().await?;
    let outage = Outage::begins(&world, voucher).await?;
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(world.sale_key(voucher, part));
    unlink.exec_async(&mut redis).await?;
    recovers(&world, &outage, &format!("{part}-deleted"), crowd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_its_holds_are_deleted() -> Result<()> {
    a_key_is_deleted("holds").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_its_pending_events_are_deleted() -> Result<()> {
    a_key_is_deleted("outbox").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_its_terms_are_deleted() -> Result<()> {
    a_key_is_deleted("sale").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_redis_is_flushed() -> Result<()> {
    let world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    let mut redis = world.redis().await?;
    let outage = Outage::begins(&world, voucher).await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    recovers(&world, &outage, "flushall", crowd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_redis_restarts_empty() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    let outage = Outage::begins(&world, voucher).await?;
    world.stack.redis.restart()?;
    recovers(&world, &outage, "restarted-empty", crowd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_redis_restarts_from_an_older_snapshot() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    world.stack.redis.snapshot()?;
    crowd.flows(50).await?;
    let outage = Outage::begins(&world, voucher).await?;
    world.stack.redis.restart_from_snapshot()?;
    recovers(&world, &outage, "older-snapshot", crowd).await
}

/// The last grants are lost, and the remaining data look complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_the_tail_of_redis_file_is_cut() -> Result<()> {
    let stores = TestStack::builder().redis(Redis::append_only()?);
    let mut world = World::over(stores, &SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    let outage = Outage::begins(&world, voucher).await?;
    world.stack.redis.restart_with_cut_tail(3_001)?;
    recovers(&world, &outage, "tail-cut", crowd).await
}
