//! Redis loses data or is stopped while orders come in: nothing is oversold, no promised order is lost, no unit leaks,
//! and the sale opens again without any action.

use std::time::{Duration, Instant};

use anyhow::Result;
use redis::AsyncCommands;
use seckill_domain::VoucherId;
use seckill_tests::{Crowd, SaleTerms, World, arm, await_stop, check_consistency, eventually};

const LARGE: SaleTerms = SaleTerms::of(20_000);

const SETTINGS: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "1000")];

fn crowd(world: &World, voucher: VoucherId) -> Crowd {
    Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001)
}

/// Waits until orders are accepted again, ends the crowd, and checks every invariant. Prints how long it took from now.
async fn recovers(world: &World, voucher: VoucherId, crowd: Crowd, case: &str) -> Result<()> {
    let since = Instant::now();
    crowd.flows(20).await?;
    let orders_again_ms = since.elapsed().as_millis();
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    let recovered_ms = since.elapsed().as_millis();
    check_consistency(world, voucher, &answers).await?;
    println!("case {case}: orders_again_ms={orders_again_ms} recovered_ms={recovered_ms}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_recovers_when_redis_is_flushed_in_the_middle_of_a_load() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let point = "projector.reload.before-open";
    arm(&mut world.projector, point, "stop")?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;
    world.stack.redis.restart()?;
    await_stop(&world.projector, point).await?;

    let loaded = world.keys_of_sale(voucher).await?;
    assert!(loaded > 1, "a claim and what was loaded under it: {loaded}");
    let mut redis = world.redis().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    world.projector.resume()?;
    recovers(&world, voucher, crowd, "flushed in mid-load").await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_two_sales_recovers_when_only_its_keys_are_deleted() -> Result<()> {
    let world = World::with(&SETTINGS)?;
    let (lost, other) = (world.sale(LARGE).await?, world.sale(LARGE).await?);
    let (crowd_of_lost, crowd_of_other) = (crowd(&world, lost), crowd(&world, other));
    crowd_of_lost.flows(50).await?;
    let mut redis = world.redis().await?;
    let keys = ["sale", "holds", "outbox"].map(|part| world.sale_key(lost, part));
    let _: () = redis.del(&keys).await?;
    crowd_of_other.flows(50).await?;
    recovers(&world, lost, crowd_of_lost, "one sale of two deleted").await?;
    // Only the terms are deleted, so the load takes over the pending events.
    let _: () = redis.del(world.sale_key(other, "sale")).await?;
    recovers(&world, other, crowd_of_other, "the terms of the other").await
}

/// Redis is stopped for longer than every time-out of a call. The calls that were sent meanwhile are carried out when
/// their callers have given up.
#[tokio::test(flavor = "multi_thread")]
async fn buyers_are_refused_in_time_while_redis_stands_still_for_five_seconds() -> Result<()> {
    let mut world = World::with(&SETTINGS)?;
    let voucher = world.sale(LARGE).await?;
    let crowd = crowd(&world, voucher);
    crowd.flows(50).await?;

    world.stack.redis.pause()?;
    let paused_at = Instant::now();
    let deadline = Duration::from_secs(1) + Duration::from_millis(750);
    eventually("Redis has stood still for five seconds", || async {
        let asked_at = Instant::now();
        // More than the number of simultaneous calls, so some wait behind others that wait for Redis.
        let refused = world.client.orders(voucher, 30_000..30_050).await;
        let took = asked_at.elapsed();
        let planned = refused.iter().filter(|answer| answer.is_planned_503());
        assert_eq!(planned.count(), 50, "{refused:?}");
        assert!(took < deadline, "{took:?}");
        Ok(paused_at.elapsed() > Duration::from_secs(5))
    })
    .await?;
    world.stack.redis.resume()?;
    recovers(&world, voucher, crowd, "Redis stands still for 5 s").await
}
