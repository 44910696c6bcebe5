//! Redis Cluster: a master dies or is stopped and its replica takes over, or a slot moves to another master, during a
//! sale. The sale is refused meanwhile, without any wrong answer, and opens again without any action. Sales on other
//! masters go on.

use anyhow::Result;
use seckill_domain::{VoucherId, partition_of};
use seckill_testkit::redis::Redis;
use seckill_testkit::{RedisCluster, TestStack};
use seckill_tests::{Answer, Crowd, Interruption, SaleTerms, World, check_consistency, eventually};

const UNITS: i64 = 300;
/// Many more buyers than there are units.
const DEMAND: u64 = 400;
const NODE_TIMEOUT_MS: u32 = 1_500;

fn over(redis: &RedisCluster) -> Result<World> {
    let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
    World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])
}

/// Puts up a sale. Returns it with its master and its slot.
async fn sale(world: &World, redis: &RedisCluster) -> Result<(VoucherId, usize, usize)> {
    let voucher = world.sale(SaleTerms::of(UNITS)).await?;
    let (owner, slot) = redis.first_owner(&world.sale_key(voucher, "sale"))?;
    Ok((voucher, owner, slot))
}

/// Puts up a sale that another master has.
async fn sale_elsewhere(world: &World, redis: &RedisCluster, owner: usize) -> Result<VoucherId> {
    loop {
        let (voucher, other, _) = sale(world, redis).await?;
        if other != owner {
            return Ok(voucher);
        }
    }
}

/// Sells the remaining units, and checks every invariant: each unit is sold exactly once.
async fn sold_out(world: &World, voucher: VoucherId, mut answers: Vec<Answer>) -> Result<()> {
    answers.extend(world.client.orders(voucher, 1_000..1_000 + DEMAND).await);
    world.quiet(voucher).await?;
    let found = check_consistency(world, voucher, &answers).await?;
    assert_eq!((found.unpaid, found.available), (UNITS, 0), "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_master_dies_and_only_its_own_sales_are_not_served() -> Result<()> {
    let mut redis = RedisCluster::start(NODE_TIMEOUT_MS)?;
    let world = over(&redis)?;
    let (voucher, owner, _) = sale(&world, &redis).await?;
    let other = sale_elsewhere(&world, &redis, owner).await?;
    let client = world.client.clone();
    let mut answers = client.orders(voucher, 1..51).await;
    let crowd = Crowd::come(std::slice::from_ref(&client), voucher, 10_001..11_001);
    crowd.flows(10).await?;

    let outage = Interruption::begins("cluster: failover");
    redis.node_mut(owner).kill()?;
    let elsewhere = client.orders(other, 1..51).await;
    assert_eq!(elsewhere.iter().filter(|a| a.is_reserved()).count(), 50);
    answers.extend(outage.until_reopened(&client, voucher, 201).await?);
    answers.extend(crowd.leave().await?);
    sold_out(&world, voucher, answers).await?;
    sold_out(&world, other, elsewhere).await
}

/// The master is stopped for longer than all time-outs. Then it is resumed, and finds that it is no longer the master.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_master_stands_still_until_its_sales_are_open_elsewhere() -> Result<()> {
    let mut redis = RedisCluster::start(NODE_TIMEOUT_MS)?;
    let world = over(&redis)?;
    let (voucher, owner, _) = sale(&world, &redis).await?;
    let idle = world.stack.start_ingress(&[])?;
    let idle = world.client_of(&idle);
    let client = world.client.clone();
    let mut answers = client.orders(voucher, 1..51).await;
    answers.extend(idle.orders(voucher, 51..61).await);

    let outage = Interruption::begins("cluster: master stands still");
    redis.node_mut(owner).pause()?;
    answers.extend(outage.until_reopened(&client, voucher, 201).await?);
    redis.node_mut(owner).resume()?;
    // Its connection to the old master is still open, and it does not know of the failover.
    answers.extend(idle.orders(voucher, 401..451).await);
    eventually("the old master is a replica", || async {
        let info = redis.node(owner).cli(&["INFO", "replication"])?;
        Ok(info.contains("role:slave"))
    })
    .await?;
    sold_out(&world, voucher, answers).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a reload waits for the node time-out"]
async fn a_slot_moves_to_another_master() -> Result<()> {
    let redis = RedisCluster::start(NODE_TIMEOUT_MS)?;
    let world = over(&redis)?;
    let (voucher, from, slot) = sale(&world, &redis).await?;
    let client = world.client.clone();
    let mut answers = client.orders(voucher, 1..51).await;
    let crowd = Crowd::come(std::slice::from_ref(&client), voucher, 10_001..11_001);
    crowd.flows(10).await?;

    let to = (from + 1) % 3;
    redis.move_begins(slot, from, to)?;
    crowd.flows(10).await?;
    let outage = Interruption::begins("cluster: slot migration");
    // Half of the move: the terms are moved, and the holds are still at the old master.
    redis.move_keys(&[&world.sale_key(voucher, "sale")], from, to)?;
    let refused = client.order(voucher, 150, None, 1).await?;
    assert!(refused.is_planned_503(), "{refused:?}");
    answers.push(refused);
    let rest = ["holds", "outbox", "claim"].map(|part| world.sale_key(voucher, part));
    redis.move_keys(&rest.each_ref().map(String::as_str), from, to)?;
    redis.move_ends(slot, from, to)?;
    answers.extend(outage.until_reopened(&client, voucher, 201).await?);
    answers.extend(crowd.leave().await?);
    sold_out(&world, voucher, answers).await
}

/// A sale of another master in the same partition of the log. The same worker carries out the effects of both sales.
async fn neighbour(
    world: &World,
    redis: &RedisCluster,
    (voucher, owner): (VoucherId, usize),
    terms: SaleTerms,
) -> Result<VoucherId> {
    let partitions = world.stack.setting("EVENT_PARTITIONS").parse()?;
    let partition = |voucher: VoucherId| partition_of(voucher.to_string().as_bytes(), partitions);
    loop {
        let other = world.sale(terms).await?;
        let (its_owner, _) = redis.first_owner(&world.sale_key(other, "sale"))?;
        if its_owner != owner && partition(other) == partition(voucher) {
            return Ok(other);
        }
    }
}

/// A master hangs or dies, and its replica is dead too, so no server takes over. The effects of its own sale wait.
/// Sales of the other masters sell, are settled, expire and are loaded. When the master is back, the missed effects of
/// its sale are carried out, although the effects worker is already far beyond them.
async fn a_shard_is_away(
    leaves: fn(&mut Redis) -> Result<()>,
    returns: fn(&mut Redis) -> Result<()>,
) -> Result<()> {
    let mut redis = RedisCluster::start(NODE_TIMEOUT_MS)?;
    let world = over(&redis)?;
    let (voucher, owner, _) = sale(&world, &redis).await?;
    let brief = SaleTerms {
        hold_seconds: 4,
        ..SaleTerms::of(5)
    };
    let other = neighbour(&world, &redis, (voucher, owner), SaleTerms::of(UNITS)).await?;
    let expiring = neighbour(&world, &redis, (voucher, owner), brief).await?;
    let client = world.client.clone();
    let mut answers = client.orders(voucher, 1..11).await;
    world.quiet(voucher).await?;

    redis.node_mut(owner + 3).kill()?;
    leaves(redis.node_mut(owner))?;
    let given_up = answers[0].order_id().expect("an order id").to_owned();
    client.cancel(1, &given_up).await?;
    world.until_status(1, &given_up, "cancelled").await?;
    let elsewhere = client.orders(other, 1..51).await;
    assert_eq!(elsewhere.iter().filter(|a| a.is_reserved()).count(), 50);
    world.quiet(other).await?;
    let lapses = client.order(expiring, 1, None, 1).await?;
    let lapses = lapses.order_id().expect("an order id").to_owned();
    world.until_status(1, &lapses, "expired").await?;
    world.quiet(expiring).await?;
    let (holder, _) = redis.first_owner(&world.sale_key(other, "sale"))?;
    let holder = redis::Client::open(redis.node(holder).url())?;
    let mut connection = holder.get_multiplexed_async_connection().await?;
    let mut unlink = redis::cmd("UNLINK");
    unlink.arg(world.sale_key(other, "holds"));
    unlink.exec_async(&mut connection).await?;
    eventually("the other sale is loaded again", || async {
        Ok(client.order(other, 60, None, 1).await?.is_reserved())
    })
    .await?;

    returns(redis.node_mut(owner))?;
    eventually("its own sale sells again", || async {
        Ok(client.order(voucher, 20, Some("again"), 1).await?.status == 202)
    })
    .await?;
    answers.push(client.order(voucher, 20, Some("again"), 1).await?);
    sold_out(&world, voucher, answers).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a hanging master is found out by time-outs"]
async fn a_master_without_a_replica_that_hangs_holds_up_its_own_sales_only() -> Result<()> {
    a_shard_is_away(Redis::pause, Redis::resume).await
}

/// The master comes back empty, so its sales are loaded.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: the Cluster takes seconds to notice"]
async fn a_master_and_its_replica_that_are_killed_take_only_their_own_sales_along() -> Result<()> {
    a_shard_is_away(Redis::kill, Redis::restart).await
}
