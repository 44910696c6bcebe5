//! A sale that is over is removed from Redis, and nothing is lost by that.

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use seckill_domain::VoucherId;
use seckill_tests::{SaleTerms, World, eventually};
use serde_json::json;
use std::time::Duration;

/// Long enough to place orders before the window is over.
const OPEN_FOR_SECONDS: i64 = 6;

async fn is_in_redis(world: &World, voucher: VoucherId) -> Result<bool> {
    let mut redis = world.redis().await?;
    Ok(redis.exists(world.sale_key(voucher, "sale")).await?)
}

async fn row(world: &World, voucher: VoucherId) -> Result<(bool, i64, i64)> {
    let sql = "SELECT retired, epoch, stock_left FROM vouchers WHERE voucher_id = $1";
    let row = sqlx::query_as(sql).bind(voucher.get());
    Ok(row.fetch_one(&world.database().await?).await?)
}

async fn window_is_over(world: &World, voucher: VoucherId) -> Result<()> {
    let pool = world.database().await?;
    eventually("the window is over", || async {
        let sql = "SELECT closes_at < now() FROM vouchers WHERE voucher_id = $1";
        let over = sqlx::query_scalar(sql).bind(voucher.get());
        Ok(over.fetch_one(&pool).await?)
    })
    .await
}

async fn leaves(world: &World, voucher: VoucherId) -> Result<()> {
    eventually("the sale has left Redis", || async {
        Ok(row(world, voucher).await?.0 && !is_in_redis(world, voucher).await?)
    })
    .await
}

/// The sale is not closed by an operator. It stays in Redis while an order can still be paid. Afterwards requests are
/// answered from PostgreSQL: a restock is counted, a payment that comes too late becomes a refund, and the sale is
/// never loaded again.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_window_is_over_leaves_redis_without_anybody_closing_it() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world
        .sale(SaleTerms {
            closes_in_seconds: OPEN_FOR_SECONDS,
            ..SaleTerms::of(20)
        })
        .await?;
    let (paid, unpaid) = (
        world.client.order(voucher, 1, None, 1).await?,
        world.client.order(voucher, 2, None, 1).await?,
    );
    let paid = paid.order_id().context("an order id")?;
    let unpaid = unpaid.order_id().context("an order id")?;
    world.client.pay(paid, "p1", 1_000).await?;
    world.until_status(1, paid, "paid").await?;
    window_is_over(&world, voucher).await?;
    let late = world.client.order(voucher, 3, None, 1).await?;
    assert_eq!((late.status, late.problem()), (403, "ended"));
    ensure!(is_in_redis(&world, voucher).await?, "an order is unpaid");
    world.client.cancel(2, unpaid).await?;
    leaves(&world, voucher).await?;

    let late = world.client.order(voucher, 3, None, 1).await?;
    assert_eq!((late.status, late.problem()), (403, "ended"));
    world.until_status(1, paid, "paid").await?;
    world.client.pay(unpaid, "p2", 1_000).await?;
    eventually("the late payment is a refund", || async {
        let order = world.until_status(2, unpaid, "cancelled").await?;
        Ok(order["refund_due"] == true)
    })
    .await?;
    let stock = format!("/admin/v1/vouchers/{voucher}/stock");
    let more = json!({ "delta": 5, "reason": "found more" });
    assert_eq!(world.client.admin_post(&stock, &more).await?.status, 202);
    eventually("the units are counted", || async {
        Ok(row(&world, voucher).await?.2 == 24)
    })
    .await?;

    let (_, epoch, _) = row(&world, voucher).await?;
    let mut redis = world.redis().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    // When the next sale is loaded, everything that had to be loaded before is loaded too.
    world.sale(SaleTerms::of(1)).await?;
    assert_eq!(row(&world, voucher).await?.1, epoch, "no load has begun");
    ensure!(!is_in_redis(&world, voucher).await?, "it was loaded again");
    Ok(())
}

/// Redis was lost when the sale was over. A new epoch begins, so that reservations that are still under way are
/// decided, and the sale's holds are not loaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_sale_that_was_lost_when_it_was_over_is_not_loaded_again() -> Result<()> {
    let mut world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world
        .sale(SaleTerms {
            closes_in_seconds: OPEN_FOR_SECONDS,
            hold_seconds: 1,
            ..SaleTerms::of(20)
        })
        .await?;
    let answer = world.client.order(voucher, 1, None, 1).await?;
    let order = answer.order_id().context("an order id")?;
    world.client.pay(order, "p1", 1_000).await?;
    world.until_status(1, order, "paid").await?;
    world.projector.pause()?;
    window_is_over(&world, voucher).await?;
    let (_, epoch, _) = row(&world, voucher).await?;
    let mut redis = world.redis().await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    world.projector.resume()?;
    leaves(&world, voucher).await?;
    assert_eq!(row(&world, voucher).await?.1, epoch + 1);
    let keys: Vec<String> = redis.keys(world.redis_name("seckill:*")).await?;
    assert_eq!(keys, Vec::<String>::new(), "nothing of it is left");
    let late = world.client.order(voucher, 2, None, 1).await?;
    assert_eq!((late.status, late.problem()), (403, "ended"));
    Ok(())
}

/// The number of commands that Redis has carried out, including those of scripts.
async fn commands(world: &World) -> Result<u64> {
    let mut redis = world.redis().await?;
    let mut info = redis::cmd("INFO");
    let text: String = info.arg("commandstats").query_async(&mut redis).await?;
    let calls = text.lines().filter_map(|line| line.split_once("calls="));
    let calls = calls.filter_map(|(_, rest)| rest.split(',').next()?.parse::<u64>().ok());
    Ok(calls.sum())
}

/// Sales that open in an hour cause almost no commands, and a sale that sells is still checked as often as usual.
#[tokio::test(flavor = "multi_thread")]
async fn sales_at_rest_cost_redis_little() -> Result<()> {
    const AT_REST: u64 = 40;
    const SECONDS: u64 = 4;
    let world = World::start()?;
    let in_an_hour = SaleTerms {
        opens_in_seconds: 3_600,
        closes_in_seconds: 7_200,
        ..SaleTerms::of(5)
    };
    let mut last = None;
    for _ in 0..AT_REST {
        last = Some(world.schedule(in_an_hour).await?);
    }
    world.until_served(last.context("a sale")?).await?;
    eventually("all are served", || async {
        let mut redis = world.redis().await?;
        let sales: Vec<String> = redis.keys(world.redis_name("seckill:*:sale")).await?;
        Ok(sales.len() == usize::try_from(AT_REST)?)
    })
    .await?;
    let before = commands(&world).await?;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let each_second = (commands(&world).await? - before) / SECONDS;
    println!("case sales-at-rest: sales={AT_REST} commands_a_second={each_second}");
    assert!(each_second < 6 * AT_REST, "{each_second} commands a second");
    Ok(())
}
