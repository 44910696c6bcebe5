//! Measures how long a large sale is not served after Redis has lost it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use seckill_domain::{OrderId, VoucherId};
use seckill_tests::{Crowd, Outage, SaleTerms, World, check_consistency_without_log};
use sqlx::PgPool;
use uuid::Uuid;

const SETTINGS: [(&str, &str); 1] = [("PROMISE_DEADLINE_MS", "1000")];
/// The number of rows in one statement.
const PAGE: i64 = 10_000;
const FIRST_USER: i64 = 10_000_000;
/// How often to wait again after [`seckill_tests::eventually`] has given up.
const PATIENCE: usize = 5;

/// Inserts unpaid orders of one unit each, as if they had been folded before the log of this test began. Their offsets
/// are negative, and below those of `before` other orders. Every second one has a key.
async fn orders_of_before(
    pool: &PgPool,
    voucher: VoucherId,
    (orders, before): (i64, i64),
) -> Result<()> {
    let mut transaction = pool.begin().await?;
    for first in (0..orders).step_by(usize::try_from(PAGE)?) {
        let numbers: Vec<i64> = (first + 1..=(first + PAGE).min(orders)).collect();
        let id = |n: &i64| OrderId::from_parts(voucher, 1, n.unsigned_abs()).as_uuid();
        let ids: Vec<Uuid> = numbers.iter().map(id).collect();
        sqlx::query(
            "INSERT INTO orders (order_id, voucher_id, user_id, quantity, amount_cents, currency, status,
                    reserved_at, pay_by, reserved_offset, partition, key_hash)
             SELECT id, v.voucher_id, $3 + n, 1, v.price_cents, v.currency, 'unpaid', now(),
                    now() + interval '1 hour', -n - $5, v.partition,
                    CASE WHEN n % 2 = 0 THEN decode(md5(n::text), 'hex') END
               FROM unnest($1::uuid[], $2::bigint[]) AS given (id, n), vouchers v
              WHERE v.voucher_id = $4",
        )
        .bind(ids)
        .bind(numbers)
        .bind(FIRST_USER)
        .bind(voucher.get())
        .bind(before)
        .execute(&mut *transaction)
        .await?;
    }
    sqlx::query(
        "UPDATE vouchers SET stock_left = stock_left - $1, unpaid_units = unpaid_units + $1
          WHERE voucher_id = $2",
    )
    .bind(orders)
    .bind(voucher.get())
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

async fn a_reload_of(orders: i64) -> Result<()> {
    let world = World::with(&SETTINGS)?;
    let voucher = world.sale(SaleTerms::of(orders + 10_000)).await?;
    let mut answers = world.client.orders(voucher, 1..101).await;
    world.quiet(voucher).await?;
    let pool = world.database().await?;
    orders_of_before(&pool, voucher, (orders, 0)).await?;
    sqlx::query("ANALYZE orders").execute(&pool).await?;

    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1_001..10_001);
    let mut redis = world.redis().await?;
    let outage = Outage::begins(&world, voucher).await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    for _ in 0..PATIENCE {
        if crowd.flows(20).await.is_ok() {
            break;
        }
    }
    answers.extend(crowd.leave().await?);
    world.quiet(voucher).await?;
    let times = outage.report(&world, &format!("reload-{orders}")).await?;
    let holds_per_s = orders * 1_000 / times.after_drain_ms.max(1);
    println!(
        "holds={orders} reload_ms={} holds_per_s={holds_per_s}",
        times.after_drain_ms
    );
    let found = check_consistency_without_log(&world, voucher, &answers).await?;
    assert!(found.unpaid >= orders + 100, "{found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 100,000 orders"]
async fn a_hundred_thousand_holds_are_loaded_again() -> Result<()> {
    a_reload_of(100_000).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 1,000,000 orders"]
async fn a_million_holds_are_loaded_again() -> Result<()> {
    a_reload_of(1_000_000).await
}

/// All sales are lost at once. A few of them are loaded at the same time, and meanwhile the fold decides payments as
/// usual.
async fn many_loads(sales: usize, holds: i64, patience: Duration) -> Result<()> {
    const PAYMENTS: u64 = 20;
    let world = World::with(&SETTINGS)?;
    let pool = world.database().await?;
    let paid = world.sale(SaleTerms::of(100)).await?;
    let answers = world.client.orders(paid, 1..PAYMENTS + 1).await;
    world.quiet(paid).await?;
    let mut vouchers = vec![paid];
    for number in 0..sales {
        let voucher = world.sale(SaleTerms::of(holds + 10)).await?;
        let before = holds * i64::try_from(number)?;
        orders_of_before(&pool, voucher, (holds, before)).await?;
        vouchers.push(voucher);
    }
    sqlx::query("ANALYZE orders").execute(&pool).await?;
    let mut redis = world.redis().await?;
    let lost_at = Instant::now();
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;

    let payments = async {
        let mut slowest = Duration::ZERO;
        for (user, answer) in (1..).zip(&answers) {
            let order = answer.order_id().context("an order id")?;
            let asked_at = Instant::now();
            world.client.pay(order, &format!("p{user}"), 1_000).await?;
            world.until_status(user, order, "paid").await?;
            slowest = slowest.max(asked_at.elapsed());
        }
        anyhow::Ok(slowest)
    };
    let world = &world;
    let open_again = try_join_all(vouchers.into_iter().map(|voucher| async move {
        // One call gives up before this many sales are loaded.
        while world.until_served(voucher).await.is_err() {
            anyhow::ensure!(lost_at.elapsed() < patience, "{voucher} is not served");
        }
        Ok(lost_at.elapsed())
    }));
    let (slowest, reopened) = tokio::try_join!(payments, open_again)?;
    let all_open = reopened.iter().max().copied().unwrap_or_default();
    println!(
        "case many-loads: sales={sales} holds={holds} all_open={all_open:?} slowest_payment={slowest:?}"
    );
    assert!(
        slowest < Duration::from_secs(5),
        "the fold waited for loads: {slowest:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fold_goes_on_while_many_lost_sales_are_loaded() -> Result<()> {
    many_loads(12, 300, Duration::from_secs(60)).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 800,000 orders"]
async fn the_fold_goes_on_while_forty_lost_sales_of_twenty_thousand_holds_are_loaded() -> Result<()>
{
    many_loads(40, 20_000, Duration::from_secs(300)).await
}
