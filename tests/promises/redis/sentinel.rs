//! Redis with Sentinel: a master dies, is cut off, and comes back, and each time its successor lacks the last writes.
//! No promised order is rejected, nothing is oversold, and the sale opens again without any action.

use anyhow::{Result, ensure};
use seckill_domain::VoucherId;
use seckill_testkit::tls::Authority;
use seckill_testkit::{Sentinels, Service, TestStack};
use seckill_tests::secured::{borrowed, redis_arguments, redis_settings};
use seckill_tests::{
    Answer, Client, Crowd, Interruption, SaleTerms, World, check_consistency, eventually,
};

const UNITS: i64 = 300;
/// Many more buyers than there are units.
const DEMAND: u64 = 400;

/// Three servers, services that find them with the sentinels, and an ingress that can always reach the first master,
/// also when the network is cut.
struct Scene {
    world: World,
    beside: Service,
    redis: Sentinels,
}

impl Scene {
    /// Starts everything.
    fn set(max_lag_seconds: u32) -> Result<Self> {
        let redis = Sentinels::start(max_lag_seconds)?;
        let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
        let world = World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])?;
        let url = redis.url_beside_the_first();
        let beside = world.stack.start_ingress(&[("REDIS_URL", &url)])?;
        Ok(Self {
            world,
            beside,
            redis,
        })
    }

    fn beside(&self) -> Client {
        self.world.client_of(&self.beside)
    }

    /// Cuts the first master off, and sells units to users 101 to 150 over it. No replica will ever get these writes.
    async fn lose_the_tail(&self, voucher: VoucherId) -> Result<Vec<Answer>> {
        self.redis.wire(0).cut();
        let tail = self.beside().orders(voucher, 101..151).await;
        let promised = tail.iter().filter(|answer| answer.is_reserved()).count();
        ensure!(promised == 50, "not all of the tail was promised: {tail:?}");
        Ok(tail)
    }

    /// Waits for the replica that the sentinels promote as the successor of `before`.
    async fn successor_of(&self, before: usize) -> Result<usize> {
        let mut successor = None;
        eventually("another master", || {
            let named = self.redis.master();
            successor = named.as_ref().ok().copied().flatten();
            let found = successor.is_some_and(|number| number != before);
            async move { Ok(found) }
        })
        .await?;
        Ok(successor.unwrap_or(before))
    }

    /// Sells the remaining units, and checks every invariant: each unit is sold exactly once.
    async fn sold_out(&self, voucher: VoucherId, mut answers: Vec<Answer>) -> Result<()> {
        answers.extend(
            self.world
                .client
                .orders(voucher, 1_000..1_000 + DEMAND)
                .await,
        );
        self.world.quiet(voucher).await?;
        let found = check_consistency(&self.world, voucher, &answers).await?;
        assert_eq!((found.unpaid, found.available), (UNITS, 0), "{found:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_promoted_replica_lacks_the_last_writes() -> Result<()> {
    let mut scene = Scene::set(3)?;
    let voucher = scene.world.sale(SaleTerms::of(UNITS)).await?;
    let mut answers = scene.world.client.orders(voucher, 1..101).await;
    answers.extend(scene.lose_the_tail(voucher).await?);
    let outage = Interruption::begins("sentinel: promoted replica lacks the last writes");
    scene.redis.server_mut(0).kill()?;
    let client = &scene.world.client;
    answers.extend(outage.until_reopened(client, voucher, 201).await?);
    scene.sold_out(voucher, answers).await
}

/// It goes on granting until it notices that its replicas are missing. Orders that it promises until then are accepted.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_master_that_is_cut_off_stops_granting_before_its_grants_are_void() -> Result<()> {
    // So long that, without the wait, its successor's load would end while it still grants.
    let scene = Scene::set(6)?;
    let voucher = scene.world.sale(SaleTerms::of(20_000)).await?;
    let mut answers = scene.world.client.orders(voucher, 1..51).await;

    let beside = scene.beside();
    let crowd = Crowd::come(std::slice::from_ref(&beside), voucher, 10_001..20_001);
    crowd.flows(5).await?;
    scene.redis.wire(0).cut();
    let outage = Interruption::begins("sentinel: old master cut off and alive");
    let promoted_and_still_granting = async {
        scene.successor_of(0).await?;
        crowd.flows(20).await
    };
    let reopened = outage.until_reopened(&scene.world.client, voucher, 201);
    let (reopened, ()) = tokio::try_join!(reopened, promoted_and_still_granting)?;
    answers.extend(reopened);
    let refused = beside.order(voucher, 30_000, None, 1).await?;
    assert!(refused.is_planned_503(), "{refused:?}");
    answers.push(refused);
    answers.extend(crowd.leave().await?);

    // Its last grants are only in its own memory.
    scene.redis.wire(0).mend();
    scene.world.quiet(voucher).await?;
    check_consistency(&scene.world, voucher, &answers).await?;
    Ok(())
}

/// The old master becomes a replica, and has the successor's data when it is promoted again.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: two failovers"]
async fn a_master_comes_back_as_a_replica_and_is_promoted_again() -> Result<()> {
    let mut scene = Scene::set(3)?;
    let voucher = scene.world.sale(SaleTerms::of(UNITS)).await?;
    let mut answers = scene.world.client.orders(voucher, 1..101).await;
    answers.extend(scene.lose_the_tail(voucher).await?);
    let outage = Interruption::begins("sentinel: A to B, A's tail lost");
    scene.redis.server_mut(0).pause()?;
    let client = scene.world.client.clone();
    answers.extend(outage.until_reopened(&client, voucher, 201).await?);
    let successor = scene.successor_of(0).await?;

    scene.redis.server_mut(0).resume()?;
    scene.redis.wire(0).mend();
    eventually("the old master follows the new one", || async {
        let info = scene.redis.server(0).cli(&["INFO", "replication"])?;
        Ok(info.contains("role:slave") && info.contains("master_link_status:up"))
    })
    .await?;
    let third = scene.redis.server(3 - successor);
    third.cli(&["CONFIG", "SET", "replica-priority", "0"])?;
    let outage = Interruption::begins("sentinel: A to B to A, as a replica");
    scene.redis.server_mut(successor).kill()?;
    answers.extend(outage.until_reopened(&client, voucher, 401).await?);
    assert_eq!(scene.successor_of(successor).await?, 0);
    scene.sold_out(voucher, answers).await
}

/// The old master was never demoted. When its successor dies, it continues with the same `run_id` and `master_replid`,
/// and with the old data from before its successor.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: two failovers"]
async fn a_master_that_slept_through_its_successor_is_named_master_again() -> Result<()> {
    let mut scene = Scene::set(3)?;
    let voucher = scene.world.sale(SaleTerms::of(UNITS)).await?;
    let mut answers = scene.world.client.orders(voucher, 1..101).await;
    answers.extend(scene.lose_the_tail(voucher).await?);
    let identity = identity(&scene.redis)?;
    let outage = Interruption::begins("sentinel: A to B, A asleep");
    scene.redis.server_mut(0).pause()?;
    scene.beside.kill()?;
    let client = scene.world.client.clone();
    answers.extend(outage.until_reopened(&client, voucher, 201).await?);
    let successor = scene.successor_of(0).await?;

    let third = scene.redis.server(3 - successor);
    third.cli(&["CONFIG", "SET", "replica-priority", "0"])?;
    let crowd = Crowd::come(std::slice::from_ref(&client), voucher, 30_001..30_101);
    crowd.flows(5).await?;
    let outage = Interruption::begins("sentinel: A to B to A, asleep all the while");
    scene.redis.server_mut(successor).kill()?;
    scene.redis.server_mut(0).resume()?;
    scene.redis.wire(0).mend();
    answers.extend(outage.until_reopened(&client, voucher, 401).await?);
    assert_eq!(scene.successor_of(successor).await?, 0);
    assert_eq!(
        self::identity(&scene.redis)?,
        identity,
        "it was never a replica"
    );
    answers.extend(crowd.leave().await?);
    scene.sold_out(voucher, answers).await
}

/// `run_id` and `master_replid` of the first server.
fn identity(redis: &Sentinels) -> Result<Vec<String>> {
    let info = redis.server(0).cli(&["INFO"])?;
    let names = ["run_id:", "master_replid:"];
    let is_one = |line: &&str| names.iter().any(|name| line.starts_with(name));
    Ok(info.lines().filter(is_one).map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a failover takes seconds"]
async fn a_master_over_tls_is_killed_and_what_was_promised_stands() -> Result<()> {
    let authority = Authority::new()?;
    let tls = redis_arguments(&authority, &authority.issue("redis")?);
    let mut redis = Sentinels::with(3, &tls)?;
    let settings = redis_settings(redis.tls_url(), &authority, &authority.issue("shop")?);
    let stack = TestStack::builder().setting("PROMISE_DEADLINE_MS", "1000");
    let world = World::on(stack.start()?, &borrowed(&settings))?;
    let voucher = world.sale(SaleTerms::of(UNITS)).await?;
    let mut answers = world.client.orders(voucher, 1..101).await;
    let outage = Interruption::begins("sentinel over TLS: master killed");
    redis.server_mut(0).kill()?;
    answers.extend(outage.until_reopened(&world.client, voucher, 201).await?);
    world.quiet(voucher).await?;
    ensure!(redis.master()?.is_some_and(|number| number != 0));
    let promised: Vec<&str> = answers
        .iter()
        .filter(|answer| answer.is_reserved())
        .filter_map(Answer::order_id)
        .collect();
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM orders WHERE status = 'unpaid' AND order_id::text = ANY($1)",
    )
    .bind(&promised)
    .fetch_one(&world.database().await?)
    .await?;
    ensure!(promised.len() > 100 && i64::try_from(promised.len())? == kept);
    Ok(())
}
