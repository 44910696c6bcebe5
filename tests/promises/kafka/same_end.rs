//! Checks that everything that reads the log gets the same result.

use anyhow::{Result, ensure};
use seckill_domain::VoucherId;
use seckill_tests::{World, eventually, until_ready};
use sqlx::PgPool;

/// The rows that the fold writes, without what depends on the time at which Redis was loaded.
async fn folded(pool: &PgPool) -> Result<Vec<String>> {
    let rows = sqlx::query_scalar(
        "SELECT t FROM (
             SELECT 'order ' || o::text AS t FROM orders o
              UNION ALL SELECT 'refund ' || r::text FROM refunds r
              UNION ALL SELECT 'adjustment ' || a::text FROM stock_adjustments a
              UNION ALL SELECT 'skipped ' || s::text FROM skipped_records s) AS rows ORDER BY t",
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Checks that a comparison with the log, a rebuild, and a fold of the log into empty tables all give the live tables,
/// and that each of them has skipped `skipped` records.
pub(crate) async fn all_come_to_the_same_end(
    world: &mut World,
    voucher: VoucherId,
    skipped: usize,
) -> Result<()> {
    let compared = world.execute(&["reconcile", "--allow-removal"])?;
    ensure!(compared.contains("0 differences"), "{compared}");
    let rebuilt = world.execute(&["rebuild", "orders", "start"])?;
    let letters = format!("{skipped} dead letters");
    ensure!(rebuilt.contains(&letters), "{rebuilt}");
    world.seckillctl(&["rebuild", "orders", "verify"])?;
    world.execute(&["rebuild", "orders", "abort"])?;

    let pool = world.database().await?;
    let live = folded(&pool).await?;
    world.projector.stop()?;
    let empty =
        "TRUNCATE vouchers, orders, refunds, stock_adjustments, sale_reloads, view_positions,
                          skipped_records";
    sqlx::query(empty).execute(&pool).await?;
    world.projector.restart(&[])?;
    eventually("the tables are folded again", || async {
        let now = folded(&pool).await?;
        ensure!(now == live, "{now:#?}\n{live:#?}");
        Ok(true)
    })
    .await?;
    let again: i64 = sqlx::query_scalar("SELECT count(*) FROM skipped_records WHERE in_log")
        .fetch_one(&pool)
        .await?;
    ensure!(
        usize::try_from(again)? == skipped,
        "the log has the decisions"
    );
    until_ready(&world.projector).await?;
    world.until_served(voucher).await?;
    world.quiet(voucher).await?;
    Ok(())
}
