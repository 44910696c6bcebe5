//! PostgreSQL comes back without its last transactions, and not one more record comes: the log is
//! folded again all the same.

use std::time::Instant;

use anyhow::Result;
use seckill_tests::{SaleTerms, World, audit, eventually};
use sqlx::PgPool;

const TABLES: [&str; 6] = [
    "vouchers",
    "orders",
    "refunds",
    "stock_adjustments",
    "sale_reloads",
    "view_positions",
];

/// A table's columns, without those that PostgreSQL computes.
async fn columns(pool: &PgPool, table: &str) -> Result<String> {
    let columns = sqlx::query_scalar(
        "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
          WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER'",
    );
    Ok(columns.bind(table).fetch_one(pool).await?)
}

async fn back_up(pool: &PgPool) -> Result<()> {
    let mut transaction = pool
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ")
        .await?;
    sqlx::query("CREATE SCHEMA backup")
        .execute(&mut *transaction)
        .await?;
    for table in TABLES {
        let copy = format!("CREATE TABLE backup.{table} AS TABLE public.{table}");
        sqlx::query(&copy).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

async fn restore(pool: &PgPool) -> Result<()> {
    let mut transaction = pool.begin().await?;
    let truncate = format!("TRUNCATE {}", TABLES.join(", "));
    sqlx::query(&truncate).execute(&mut *transaction).await?;
    for table in TABLES {
        let columns = columns(pool, table).await?;
        let fill =
            format!("INSERT INTO public.{table} ({columns}) SELECT {columns} FROM backup.{table}");
        sqlx::query(&fill).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_is_noticed_without_a_new_record() -> Result<()> {
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::of(20)).await?;
    let mut answers = world.client.orders(voucher, 1..6).await;
    world.until_carried_out().await?;
    let pool = world.database().await?;
    back_up(&pool).await?;
    answers.extend(world.client.orders(voucher, 6..11).await);
    world.quiet(voucher).await?;
    world.until_carried_out().await?;

    restore(&pool).await?;
    let restored_at = Instant::now();
    eventually("all orders are back", || async {
        let count = sqlx::query_scalar("SELECT count(*) FROM orders");
        let count: i64 = count.fetch_one(&pool).await?;
        Ok(count == 10)
    })
    .await?;
    world.until_carried_out().await?;
    world.quiet(voucher).await?;
    let recovered_ms = restored_at.elapsed().as_millis();
    assert_eq!(audit(&world, voucher, &answers).await?.unpaid, 10);
    println!("case PostgreSQL restored from a backup: orders=10 recovered_ms={recovered_ms}");
    Ok(())
}
