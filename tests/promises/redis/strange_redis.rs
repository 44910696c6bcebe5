//! Problems with a Redis that is shared or managed by others: it cannot save, it loses scripts, a long script blocks
//! it, or it has no CONFIG command.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_testkit::{Redis, TestStack};
use seckill_tests::{SaleTerms, Trade, World, eventually, until_ready};

/// Redis refuses writes after a snapshot has failed (`MISCONF`), and accepts them again after the next one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn while_redis_cannot_save_orders_are_refused_and_no_stock_is_touched() -> Result<()> {
    let redis = Redis::start_with(&["--enable-protected-configs", "yes"])?;
    let world = World::on(TestStack::builder().redis(redis).start()?, &[])?;
    let trade = Trade::begin(&world).await?;
    let cli = |line: &[&str]| world.stack.redis.cli(line);
    cli(&["CONFIG", "SET", "save", "3600 1"])?;
    cli(&["CONFIG", "SET", "dbfilename", "."])?;
    // The file name is that of a directory. Redis refuses that, or fails when it renames its file.
    let _ = cli(&["BGSAVE"]);
    eventually("Redis refuses writes", || async {
        let refused = cli(&["SET", "x", "1"]);
        Ok(refused.is_err_and(|error| format!("{error:#}").contains("MISCONF")))
    })
    .await?;
    let refused = world.client.order(trade.voucher, 9, Some("k"), 1).await?;
    ensure!(refused.is_planned_503(), "{refused:?}");
    let before = world.client.ledger(trade.voucher).await?;
    cli(&["CONFIG", "SET", "dbfilename", "dump.rdb"])?;
    cli(&["BGSAVE"])?;
    until_ready(&world.ingress).await?;
    trade.crowd.flows(50).await?;
    let served = world.client.order(trade.voucher, 9, Some("k"), 1).await?;
    ensure!(served.is_reserved(), "{before}: {served:?}");
    trade.end(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_forgot_are_loaded_again_and_a_foreign_one_that_holds_it_up_is_outlived()
-> Result<()> {
    let world = World::start()?;
    let trade = Trade::begin(&world).await?;
    let cli = |line: &[&str]| world.stack.redis.cli(line);
    for _ in 0..20 {
        cli(&["SCRIPT", "FLUSH"])?;
        trade.crowd.flows(5).await?;
    }
    cli(&["CONFIG", "SET", "busy-reply-threshold", "100"])?;
    let holds_up = tokio::task::spawn_blocking({
        let port = world.stack.redis.port();
        move || seckill_testkit::redis::cli(port, &["EVAL", "while true do end", "0"])
    });
    eventually("Redis says that it is busy", || async {
        let refused = cli(&["GET", "x"]);
        Ok(refused.is_err_and(|error| format!("{error:#}").contains("BUSY")))
    })
    .await?;
    let refused = world.client.order(trade.voucher, 9, Some("k"), 1).await?;
    ensure!(refused.is_planned_503(), "{refused:?}");
    tokio::time::sleep(Duration::from_secs(3)).await;
    cli(&["SCRIPT", "KILL"])?;
    let killed = holds_up.await?.err().context("it ended by itself")?;
    ensure!(format!("{killed:#}").contains("killed"), "{killed:#}");
    trade.crowd.flows(50).await?;
    trade.end(&world).await.map(drop)
}

/// Managed services often lack CONFIG, DEBUG and KEYS.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_the_commands_that_managed_ones_lack_is_enough() -> Result<()> {
    let lacks = [
        "CONFIG",
        "DEBUG",
        "KEYS",
        "FLUSHALL",
        "FLUSHDB",
        "SAVE",
        "BGSAVE",
        "SHUTDOWN",
        "MONITOR",
        "SLAVEOF",
        "REPLICAOF",
        "ACL",
        "MODULE",
        "MIGRATE",
    ];
    let settings: Vec<&str> = lacks
        .iter()
        .flat_map(|name| ["--rename-command", name, ""])
        .collect();
    let redis = Redis::start_with(&settings)?;
    let world = World::on(TestStack::builder().redis(redis).start()?, &[])?;
    let trade = Trade::begin(&world).await?;
    // A lost sale is loaded and compared.
    let lost = world.sale(SaleTerms::of(5)).await?;
    let keys = ["sale", "holds", "outbox"].map(|part| world.sale_key(lost, part));
    let del: Vec<&str> = std::iter::once("DEL")
        .chain(keys.iter().map(String::as_str))
        .collect();
    world.stack.redis.cli(&del)?;
    eventually("the lost sale sells again", || async {
        Ok(world
            .client
            .order(lost, 9, Some("k"), 1)
            .await?
            .is_reserved())
    })
    .await?;
    world.seckillctl(&["reconcile"])?;
    trade.end(&world).await.map(drop)
}
