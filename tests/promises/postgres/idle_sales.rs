//! Sales that nobody orders from are looked at all the time, and PostgreSQL is not asked for their effects each time.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use seckill_tests::{SaleTerms, World, eventually, series};
use sqlx::PgPool;

const SALES: i64 = 40;
/// Looks of the consistency check, one a second, while pages are counted. The watch looks more often.
const LOOKS: u64 = 5;

/// How many pages of effects were read so far: each reads the refunds of its range, and nothing else reads refunds
/// while nobody orders.
async fn pages(pool: &PgPool) -> Result<i64> {
    let reads = "SELECT seq_scan + idx_scan FROM pg_stat_user_tables WHERE relname = 'refunds'";
    Ok(sqlx::query_scalar(reads).fetch_one(pool).await?)
}

fn looks(world: &World) -> Result<u64> {
    let looks = series(
        &world.projector,
        "seckill_audit_looks_total{result=\"done\"}",
    )?;
    looks.context("no looks are counted")
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_are_read_for_each_partition_and_not_for_each_sale_that_is_open() -> Result<()> {
    let world = World::start()?;
    for _ in 0..SALES {
        world.sale(SaleTerms::default()).await?;
    }
    world.until_carried_out().await?;
    let pool = world.database().await?;

    let (begun, before) = (Instant::now(), pages(&pool).await?);
    let enough = looks(&world)? + LOOKS;
    eventually("the sales are looked at", || async {
        Ok(looks(&world)? >= enough)
    })
    .await?;
    let read = pages(&pool).await? - before;
    let seconds = i64::try_from(begun.elapsed().as_secs())?;
    println!("{read} pages in {seconds} s, {SALES} sales");
    ensure!(read > 0, "pages are not counted");
    // Each sale is seen four times a second.
    ensure!(read < SALES * seconds, "{read} pages in {seconds} s");
    Ok(())
}
