//! What PostgreSQL takes by COPY into a table with the columns, checks and indexes of `orders`: the cheapest way there is
//! to write an order.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use seckill_domain::{OrderId, VoucherId};
use sqlx::{Connection, PgConnection, raw_sql};

const CREATE: &str = "CREATE TABLE seckill_bench_copy (LIKE orders INCLUDING ALL)";
const DROP: &str = "DROP TABLE IF EXISTS seckill_bench_copy";
const COPY: &str = "COPY seckill_bench_copy (order_id, voucher_id, user_id, quantity, amount_cents, reserved_at, pay_by, \
    reserved_offset, partition, currency, status) FROM STDIN";
/// One transaction, as many as the fold's largest batch.
const ROWS: u64 = 1_000;

/// Rows a second over about `time`. The table is gone afterwards.
pub(in crate::throughput) async fn measure(database_url: &str, time: Duration) -> Result<f64> {
    let mut database = PgConnection::connect(database_url).await?;
    raw_sql(DROP).execute(&mut database).await?;
    raw_sql(CREATE).execute(&mut database).await?;
    let rate = copy(&mut database, time).await;
    raw_sql(DROP).execute(&mut database).await?;
    rate
}

async fn copy(database: &mut PgConnection, time: Duration) -> Result<f64> {
    let started = Instant::now();
    let mut copied = 0;
    while copied == 0 || started.elapsed() < time {
        let mut into = database.copy_in_raw(COPY).await?;
        into.send(rows(copied)?.as_bytes()).await?;
        copied += into.finish().await?;
    }
    Ok(copied as f64 / started.elapsed().as_secs_f64())
}

/// Unpaid orders of as many buyers, as COPY reads them.
fn rows(first: u64) -> Result<String> {
    let voucher = VoucherId::new(1)?;
    let mut text = String::new();
    for number in first..first + ROWS {
        let order = OrderId::from_parts(voucher, 1, number);
        let _ = writeln!(
            text,
            "{order}\t{voucher}\t{}\t1\t100\t2026-01-01 00:00:00Z\t2026-01-01 00:15:00Z\t{number}\t0\tEUR\tunpaid",
            number + 1
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str = include_str!("../../../../migrations/0001_order_book.sql");

    #[tokio::test]
    async fn orders_are_copied_and_no_table_is_left() {
        let empty = seckill_testkit::fresh_database().unwrap();
        let url = empty.url();
        let mut database = PgConnection::connect(&url).await.unwrap();
        raw_sql(ORDERS).execute(&mut database).await.unwrap();
        let rate = measure(&url, Duration::ZERO).await.unwrap();
        assert!(rate > 0.0, "{rate}");
        let gone = "SELECT to_regclass('seckill_bench_copy') IS NULL";
        let gone: bool = sqlx::query_scalar(gone)
            .fetch_one(&mut database)
            .await
            .unwrap();
        assert!(gone);
    }
}
