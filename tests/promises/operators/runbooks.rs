//! Every command of every runbook works, in the order of the text and in the situation of the runbook.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use seckill_domain::{OrderId, VoucherId};
use seckill_testkit::{RedisCluster, Sentinels, TestStack};
use seckill_tests::{
    Crowd, ForeignProducer, Injection, Runbook, SaleTerms, Victim, World, eventually, until_ready,
    until_unready,
};

/// The order id that the texts use as an example.
const ORDER: &str = "00000004-4c2a-8f5a-91b3-5a0000000001";

/// Makes a sale with some orders. Returns it with one of the orders.
async fn sale(world: &World) -> Result<(VoucherId, String)> {
    let voucher = world.sale(SaleTerms::of(1000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..1000);
    crowd.flows(10).await?;
    let answers = crowd.leave().await?;
    let order = answers.iter().find_map(|answer| answer.order_id());
    let order = order.context("an order")?.to_owned();
    world.quiet(voucher).await?;
    Ok((voucher, order))
}

fn run(runbook: &Runbook, world: &World) -> Result<Vec<String>> {
    tokio::task::block_in_place(|| runbook.run(world))
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild() -> Result<()> {
    let world = World::start()?;
    let (voucher, _) = sale(&world).await?;
    let runbook = Runbook::read("rebuild.md")?.with("show 17", &format!("show {voucher}"))?;
    let printed = run(&runbook, &world)?;
    let last = printed.last().context("a block")?;
    assert!(
        last.contains("pruned") && last.contains("aborted"),
        "{last}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lag() -> Result<()> {
    let mut world = World::start()?;
    let (_, order) = sale(&world).await?;
    world.projector.pause()?;
    let behind = world
        .client
        .order(voucher_of(&order)?, 2_000, None, 1)
        .await?;
    ensure!(behind.is_reserved(), "{behind:?}");
    let runbook = Runbook::read("lag.md")?.with(ORDER, &order)?;
    let printed = tokio::task::block_in_place(|| runbook.run_block(&world, &runbook.blocks()[0]))?;
    ensure!(printed.contains("BEHIND"), "{printed}");
    world.projector.resume()?;
    until_ready(&world.projector).await?;
    let printed = run(&runbook, &world)?;
    assert!(printed[0].contains("BEHIND"), "{printed:?}");
    Ok(())
}

fn voucher_of(order: &str) -> Result<VoucherId> {
    Ok(order.parse::<OrderId>()?.voucher_id())
}

/// Writes a restock of one unit with a key of no sale, and two pieces of garbage, into the event topic. Returns their
/// places.
async fn bury(world: &World, voucher: VoucherId) -> Result<[String; 2]> {
    let foreign = ForeignProducer::of(world)?;
    let home = foreign.home_of(voucher);
    foreign.misfile_restock(voucher).await?;
    let first = foreign.write_as(voucher, b"garbage").await?;
    let second = foreign.write_as(voucher, b"more of it").await?;
    Ok([first, second].map(|offset| format!("{home}/{offset}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters() -> Result<()> {
    let world = World::start()?;
    let (voucher, order) = sale(&world).await?;
    let [first, second] = bury(&world, voucher).await?;
    eventually("they are dead letters", || async {
        let listed = tokio::task::block_in_place(|| world.stack.seckillctl(&["dlq", "list"]))?;
        Ok(listed.contains(&second))
    })
    .await?;

    let runbook = Runbook::read("dead-letters.md")?
        .with("'unknown schema'", "'key is not'")?
        .with("3/1042", &first)?
        .with("3/1043", &second)?
        .with(ORDER, &order)?;
    let printed = run(&runbook, &world)?;
    ensure!(printed[0].contains(&second), "the list: {}", printed[0]);
    let exported = runbook.written("dead-letters.jsonl")?;
    ensure!(exported.lines().count() == 2, "{exported}");
    let last = printed.last().context("a block")?;
    ensure!(last.contains("projector 0.2 reads it"), "the audit: {last}");
    // The redriven restock is carried out.
    eventually("a unit more", || async {
        Ok(world.client.ledger(voucher).await?["adjusted"] == 1)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn fold_stands_still() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let foreign = ForeignProducer::of(&world)?;
    let of_unknown_schema = [&[0xC3, 0x01][..], &[7; 8], b"?"].concat();
    let offset = foreign.write_as(voucher, &of_unknown_schema).await?;
    until_unready(&world.projector, "stands still").await?;
    let place = format!("{}/{offset}", foreign.home_of(voucher));
    let runbook = Runbook::read("fold-stands-still.md")?
        .with("3/1042", &place)?
        .with("--voucher 17", &format!("--voucher {voucher}"))?;
    let printed = run(&runbook, &world)?;
    ensure!(printed[1].contains("1 to skip"), "the plan: {}", printed[1]);
    ensure!(
        printed[1].contains("1 skipped"),
        "it is done: {}",
        printed[1]
    );
    until_ready(&world.projector).await
}

/// Other tests carry out the sections for Sentinel and Cluster.
#[tokio::test(flavor = "multi_thread")]
async fn lost_redis() -> Result<()> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let (voucher, order) = sale(&world).await?;
    world.stack.redis.restart()?;
    let runbook = Runbook::read("lost-redis.md")?
        .without("With Sentinel")?
        .without("As a Cluster")?
        .with("show 17", &format!("show {voucher}"))?
        .with("--voucher 17", &format!("--voucher {voucher}"))?
        .with(ORDER, &order)?;
    let printed = run(&runbook, &world)?;
    let seen = printed.concat();
    ensure!(
        seen.contains("role:master") && seen.contains("noeviction"),
        "{seen}"
    );
    world.quiet(voucher).await?;
    ensure!(!runbook.written("sale.jsonl")?.is_empty(), "no evidence");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three servers, their sentinels and a failover"]
async fn lost_redis_with_sentinel() -> Result<()> {
    let redis = Sentinels::start(2)?;
    let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
    let world = World::over(stores, &[("PROMISE_DEADLINE_MS", "500")])?;
    sale(&world).await?;
    let before = redis.master()?;
    redis.fail_over()?;
    let mut after = None;
    eventually("another master", || {
        after = redis.master().ok().flatten();
        let changed = after.is_some() && after != before;
        async move { Ok(changed) }
    })
    .await?;
    let master = redis.server(after.context("a master")?);
    let url = redis.url();
    let mut ports = url
        .split(['/', ',', ':'])
        .filter_map(|part| part.parse::<u16>().ok());
    let sentinel = ports.next_back().context("a sentinel's port")?;
    let runbook = Runbook::read("lost-redis.md")?
        .only("With Sentinel")?
        .with("-h SENTINEL -p 26379", &format!("-p {sentinel}"))?
        .with("-h MASTER", &format!("-p {}", master.port()))?;
    eventually("the new master has its replicas", || async {
        let printed = run(&runbook, &world)?.concat();
        ensure!(
            printed.contains("OK") && printed.contains("role:master"),
            "{printed}"
        );
        Ok(printed.contains("connected_slaves:2"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: six servers, and a migration left half-way"]
async fn lost_redis_as_a_cluster() -> Result<()> {
    let redis = RedisCluster::start(1_500)?;
    let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
    let world = World::over(stores, &[("PROMISE_DEADLINE_MS", "500")])?;
    let (voucher, _) = sale(&world).await?;
    let (owner, slot) = redis.first_owner(&world.sale_key(voucher, "sale"))?;
    redis.move_begins(slot, owner, (owner + 1) % 3)?;
    let port = redis.node(owner).port();
    let runbook = Runbook::read("lost-redis.md")?
        .only("As a Cluster")?
        .with("NODE:6379", &format!("127.0.0.1:{port}"))?
        .with("-h NODE", &format!("-p {port}"))?
        .with("{17}", &format!("{{{voucher}}}"))?;
    // The commands that inspect the cluster fail until it is repaired.
    let blocks = runbook.blocks();
    let mends = blocks.last().context("a block")?;
    tokio::task::block_in_place(|| runbook.run_block(&world, mends))?;
    let printed = run(&runbook, &world)?.concat();
    ensure!(printed.contains("cluster_state:ok"), "{printed}");
    world.quiet(voucher).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts() -> Result<()> {
    let world = World::start()?;
    let (voucher, _) = sale(&world).await?;
    let runbook = Runbook::read("alerts.md")?.with("report 17", &format!("report {voucher}"))?;
    let printed = run(&runbook, &world)?;
    ensure!(printed[0].matches("\"ready\"").count() == 3, "{printed:?}");
    let last = printed.last().context("a block")?;
    ensure!(last.contains("0 differences"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn upgrade() -> Result<()> {
    let world = World::start()?;
    sale(&world).await?;
    world.until_carried_out().await?;
    let printed = run(&Runbook::read("upgrade.md")?, &world)?;
    ensure!(
        printed.iter().all(|block| !block.contains("WRONG")),
        "{printed:?}"
    );
    let last = printed.last().context("a block")?;
    ensure!(last.contains("0 differences"), "{last}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(1_000)).await?;
    let victim = Victim::of(&world, voucher, 1_000).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    for injection in [Injection::CorruptedOrder, Injection::StockOneMore] {
        injection.inject(&pool, &mut redis, &victim).await?;
    }
    let runbook =
        Runbook::read("reconcile.md")?.with("--voucher 17", &format!("--voucher {voucher}"))?;
    let printed = run(&runbook, &world)?;
    let differences = &printed[0];
    ensure!(
        differences.contains("corrupted-row") && differences.contains("redis-stock"),
        "{differences}"
    );
    let last = printed.last().context("a block")?;
    ensure!(last.contains("0 differences"), "{last}");
    Ok(())
}

/// Every command is tested: there is no runbook without a test, no section that all tests leave out, and no command
/// outside of the blocks.
#[test]
fn all_of_them_are_carried_out() -> Result<()> {
    let tests = include_str!("runbooks.rs");
    for name in Runbook::names()? {
        ensure!(
            tests.contains(&format!("Runbook::read(\"{name}\")?")),
            "no test carries out {name}"
        );
        let astray = Runbook::read(&name)?.commands_in_no_block();
        ensure!(astray.is_empty(), "{name}: in no block: {astray:?}");
    }
    let named = |call: &str| -> BTreeSet<&str> {
        let parts = tests.split(call).skip(1);
        parts.filter_map(|part| part.split('"').next()).collect()
    };
    let (left_out, alone) = (named(".without(\""), named(".only(\""));
    ensure!(
        left_out == alone,
        "{left_out:?} are left out, {alone:?} run"
    );
    Ok(())
}
