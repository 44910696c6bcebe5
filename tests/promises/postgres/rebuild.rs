//! The tables are exchanged while orders keep coming in: nothing is lost or doubled, and nothing waits for long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_tests::{Crowd, SaleTerms, World, check_consistency, eventually};
use serde_json::Value;
use sqlx::PgPool;

const PAUSE_MAX: Duration = Duration::from_secs(1);

fn rebuild(world: &World, command: &str) -> Result<Value> {
    let acts = [
        "--execute",
        "--yes",
        "--reason",
        "a test",
        "--actor",
        "test",
    ];
    let arguments = [
        &["rebuild", "orders", command, "--output", "json"][..],
        &acts,
    ]
    .concat();
    let printed = tokio::task::block_in_place(|| world.stack.seckillctl(&arguments))?;
    serde_json::from_str(&printed).context(printed)
}

/// Writes to one of the tables all the time without changing it. Returns the longest wait.
async fn longest_wait(pool: PgPool, stop: Arc<AtomicBool>) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        sqlx::query("UPDATE view_positions SET next_offset = next_offset WHERE partition < 0")
            .execute(&pool)
            .await?;
        longest = longest.max(began.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_change_places_under_live_orders() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(100_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..100_000);
    crowd.flows(50).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let waiting = tokio::spawn(longest_wait(world.database().await?, Arc::clone(&stop)));

    let started = rebuild(&world, "start")?;
    assert_eq!(started["proof"]["differing"], serde_json::json!([]));
    for command in ["promote", "rollback", "promote"] {
        crowd.flows(20).await?;
        let done = rebuild(&world, command)?;
        let pause_ms = done["pause_ms"].as_u64().context("a pause")?;
        assert!(
            u128::from(pause_ms) < PAUSE_MAX.as_millis(),
            "{command}: {done}"
        );
        println!(
            "{command}: the fold stood still for {pause_ms} ms, {}",
            done["attempts"]
        );
    }
    crowd.flows(20).await?;
    stop.store(true, Ordering::Relaxed);
    let longest = waiting.await??;
    println!("a writer of the tables waited for {longest:?} at most");
    assert!(longest < PAUSE_MAX, "{longest:?}");

    let answers = crowd.leave().await?;
    let last = answers.iter().rfind(|answer| answer.is_reserved());
    let last = last.context("an order")?.order_id().context("an id")?;
    eventually("the last order is folded", || async {
        let sql = "SELECT EXISTS (SELECT FROM orders WHERE order_id = $1::uuid)";
        let folded = sqlx::query_scalar(sql).bind(last);
        Ok(folded.fetch_one(&world.database().await?).await?)
    })
    .await?;
    world.quiet(voucher).await?;
    check_consistency(&world, voucher, &answers).await?;
    rebuild(&world, "prune")?;
    let check = ["rebuild", "orders", "check"];
    tokio::task::block_in_place(|| world.stack.seckillctl(&check))?;
    world.until_carried_out().await
}
