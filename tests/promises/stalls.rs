//! A fold that has something to do and does not get on is not ready, and says so; no store is away.

use anyhow::{Result, ensure};
use seckill_tests::{SaleTerms, World, until_ready, until_unready};

#[tokio::test(flavor = "multi_thread")]
async fn a_fold_that_does_not_move_is_not_ready_and_names_its_partition() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    ensure!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    world.quiet(voucher).await?;
    let pool = world.database().await?;
    let mut held = pool.begin().await?;
    // As long as this transaction is open, no fold can move its position.
    sqlx::query("SELECT FROM view_positions WHERE view = 'orders' FOR UPDATE")
        .execute(&mut *held)
        .await?;
    ensure!(world.client.order(voucher, 2, None, 1).await?.is_reserved());
    until_unready(&world.projector, "has not moved").await?;
    until_unready(&world.projector, "1 behind the log").await?;

    held.rollback().await?;
    until_ready(&world.projector).await?;
    let ledger = world.quiet(voucher).await?;
    ensure!(ledger["unpaid"] == 2, "{ledger}");
    Ok(())
}
