//! Before a repair removes an order or a hold, it prints what the log says about it.

use anyhow::{Context, Result, ensure};
use redis::AsyncCommands;
use seckill_domain::{OrderId, VoucherId};
use seckill_testkit::service::run_binary;
use seckill_tests::{
    EXECUTE, ForeignProducer, Injection, SaleTerms, Victim, World, check_consistency, eventually,
};
use serde_json::Value;

const BUYER: u64 = 4;

/// An order that its buyer has cancelled.
async fn given_up(world: &World, voucher: VoucherId) -> Result<String> {
    let answer = world.client.order(voucher, BUYER, None, 1).await?;
    let order = answer.order_id().context("an order id")?.to_owned();
    world.until_status(BUYER, &order, "unpaid").await?;
    world.client.cancel(BUYER, &order).await?;
    world.until_status(BUYER, &order, "cancelled").await?;
    Ok(order)
}

/// Makes a cancelled order live again, in the tables and in Redis.
async fn revive(world: &World, voucher: VoucherId, order: &str) -> Result<()> {
    let revived = sqlx::query(
        "UPDATE orders SET status = 'unpaid', closed_at = NULL, closed_offset = NULL
          WHERE order_id = $1::uuid",
    )
    .bind(order)
    .execute(&world.database().await?)
    .await?;
    ensure!(revived.rows_affected() == 1, "{revived:?}");
    let (mut redis, holds) = (world.redis().await?, world.sale_key(voucher, "holds"));
    let hold: String = redis.hget(&holds, BUYER).await?;
    let live = hold.replacen("|r|", "|s|", 1);
    ensure!(live != hold, "its hold was released: {hold}");
    let _: i64 = redis.hset(&holds, BUYER, live).await?;
    Ok(())
}

/// Everything that a plan would remove, with what the log says about it.
fn losses(plan: &Value) -> Result<Vec<(String, Value)>> {
    let found = plan["differences"].as_array().context("no list")?.iter();
    let removes = found.filter(|difference| difference["removes"] == true);
    let loss = |difference: &Value| {
        let of = difference["of"].as_str().context("no key")?;
        Ok((of.to_owned(), difference["evidence"].clone()))
    };
    removes.map(loss).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_away_without_the_record_that_disproves_it() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let victim = Victim::of(&world, voucher, 1_000).await?;
    let cancelled = given_up(&world, voucher).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    for injection in [
        Injection::ExtraOrder,
        Injection::OrphanHold,
        Injection::ExtraRefund,
    ] {
        injection.inject(&pool, &mut redis, &victim).await?;
    }
    revive(&world, voucher, &cancelled).await?;
    let unknown = OrderId::from_parts(voucher, 0xdead, 0xbeef);
    let home = ForeignProducer::of(&world)?.home_of(voucher);

    let before = world.contents(voucher).await?;
    let told = world.refused(&["reconcile"])?;
    ensure!(told.contains("exit status: 4"), "{told}");
    ensure!(told.contains("--allow-removal"), "{told}");
    let absent =
        format!("no record of partition {home} names order {unknown}: it was read from offset 0");
    ensure!(
        told.matches(&absent).count() == 2,
        "its row and its hold: {told}"
    );
    ensure!(
        told.contains(&format!(
            "no record of partition {home} names payment nobody"
        )),
        "{told}"
    );
    let disproved = told.matches("OrderCancelled, after which the order is cancelled");
    ensure!(disproved.count() == 2, "its row and its hold: {told}");
    ensure!(
        world.contents(voucher).await? == before,
        "it changed something"
    );

    let plan = world.seckillctl(&["reconcile", "--output", "json"])?;
    let losses = losses(&serde_json::from_str(&plan)?)?;
    ensure!(losses.len() == 5, "{plan}");
    for (of, evidence) in losses {
        ensure!(evidence["partition"] == home, "{evidence}");
        if of.contains(&cancelled) {
            let event = &evidence["event"];
            ensure!(
                event["type"] == "OrderCancelled" && event["order_id"] == *cancelled,
                "{event}"
            );
            ensure!(evidence["offset"].is_i64(), "{evidence}");
        } else {
            let unknown = unknown.to_string();
            ensure!(of.contains(&unknown) || of == "refunds nobody", "{of}");
            ensure!(
                evidence["from"] == 0 && evidence["to"] == evidence["records"],
                "{evidence}"
            );
        }
    }
    world.execute(&["reconcile", "--allow-removal"])?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}

/// The payment has paid its order, so its record shows that the refund is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn a_refund_of_a_payment_that_counts_is_taken_away_with_that_payments_record() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let victim = Victim::of(&world, voucher, 1_000).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let honoured: String = sqlx::query_scalar(
        r#"INSERT INTO refunds (payment_id, voucher_id, order_id, amount_cents, currency, reason, partition, "offset")
           SELECT payment_id, voucher_id, order_id, amount_cents, currency, 'already-paid', partition, -1
             FROM orders WHERE order_id = $1::uuid RETURNING payment_id"#,
    )
    .bind(victim.paid.1.to_string())
    .fetch_one(&world.database().await?)
    .await?;
    let told = world.refused(&["reconcile"])?;
    ensure!(
        told.contains(&format!("refunds {honoured}: "))
            && told.contains(" OrderPaid, after which the order is paid"),
        "{told}"
    );
    world.execute(&["reconcile", "--allow-removal"])?;
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}

/// Rows that were written after the plan are not in the plan, so their evidence was not shown.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_appear_between_the_plan_and_the_repair_are_not_taken_away() -> Result<()> {
    let world = World::with(&[("PROMISE_DEADLINE_MS", "500")])?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let victim = Victim::of(&world, voucher, 1_000).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    let wrong = Injection::CorruptedOrder;
    wrong.inject(&pool, &mut redis, &victim).await?;

    // The plan only reads. The repair waits for the row of the fold's position, which is locked here.
    let mut held = pool.begin().await?;
    sqlx::query("SELECT FROM view_positions FOR UPDATE")
        .execute(&mut *held)
        .await?;
    let environment = world.stack.env().clone();
    let command = [&["reconcile", "--allow-removal"][..], &EXECUTE].concat();
    let repair =
        tokio::task::spawn_blocking(move || run_binary("seckillctl", &command, &environment));
    eventually("the repair waits for the fold", || async {
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity
                      WHERE application_name = 'seckillctl' AND wait_event_type = 'Lock')";
        Ok(sqlx::query_scalar(waits).fetch_one(&pool).await?)
    })
    .await?;
    for injection in [Injection::ExtraOrder, Injection::ExtraRefund] {
        injection.write(&mut held, &victim).await?;
    }
    held.commit().await?;
    let told = repair
        .await?
        .expect_err("it would take away what no plan has named");
    let told = format!("{told:#}");
    let unknown = OrderId::from_parts(voucher, 0xdead, 0xbeef);
    for says in [
        "exit status: 4",
        "appeared after the plan was made",
        &format!("order {unknown}"),
        "the refund of payment nobody",
    ] {
        ensure!(told.contains(says), "{says:?} in {told}");
    }
    let rows: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM refunds WHERE payment_id = 'nobody')",
    )
    .fetch_one(&pool)
    .await?;
    ensure!(rows == (4, 1), "{rows:?}");

    // A new plan names them.
    let told = world.refused(&["reconcile"])?;
    ensure!(told.contains(&format!("names order {unknown}")), "{told}");
    world.execute(&["reconcile", "--allow-removal"])?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &[]).await?;
    Ok(())
}
