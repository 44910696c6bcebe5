//! A PostgreSQL server that is shared with others: it has unusual defaults, refuses writes for a while, and its tables
//! have additions.

use anyhow::{Context, Result, ensure};
use seckill_testkit::TestStack;
use seckill_tests::{Trade, World, eventually_within, until_unready};
use sqlx::PgPool;
use std::time::Duration;

/// Defaults for sessions that some operators set.
const DEFAULTS: [&str; 16] = [
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "synchronous_commit = off",
    "timezone = 'Asia/Kolkata'",
    "datestyle = 'German'",
    "intervalstyle = 'sql_standard'",
    "bytea_output = 'escape'",
    "standard_conforming_strings = off",
    "extra_float_digits = -15",
    "quote_all_identifiers = on",
    "client_encoding = 'LATIN1'",
    "array_nulls = off",
    "idle_session_timeout = '1s'",
    "plan_cache_mode = 'force_generic_plan'",
    "enable_indexscan = off",
    "search_path = pg_catalog, public",
];

/// Runs a statement about the whole database. `{}` stands for its name.
async fn alter(pool: &PgPool, statement: &str) -> Result<()> {
    let name: String = sqlx::query_scalar("SELECT quote_ident(current_database())")
        .fetch_one(pool)
        .await?;
    let sql = statement.replace("{}", &name);
    sqlx::query(&sql).execute(pool).await.context(sql)?;
    Ok(())
}

fn rebuild(world: &World) -> Result<()> {
    for command in ["start", "promote", "prune"] {
        world.execute(&["rebuild", "orders", command])?;
    }
    world.seckillctl(&["rebuild", "orders", "check"]).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_that_somebody_has_given_the_database_change_nothing() -> Result<()> {
    let stack = TestStack::builder().start()?;
    let pool = PgPool::connect(stack.setting("DATABASE_URL")).await?;
    for default in DEFAULTS {
        alter(&pool, &format!("ALTER DATABASE {{}} SET {default}")).await?;
    }
    let world = World::on(stack, &[])?;
    let trade = Trade::begin(&world).await?;
    rebuild(&world)?;
    trade.crowd.flows(50).await?;
    trade.end(&world).await?;
    let compared = world.seckillctl(&["reconcile"])?;
    ensure!(compared.contains("0 differences"), "{compared}");
    Ok(())
}

/// As with a reader endpoint after a failover: connections stay open, and refuse writes.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_for_a_while_is_written_again_by_itself() -> Result<()> {
    let world = World::start()?;
    let trade = Trade::begin(&world).await?;
    let pool = world.database().await?;
    alter(
        &pool,
        "ALTER DATABASE {} SET default_transaction_read_only = on",
    )
    .await?;
    let all_others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND pid <> pg_backend_pid()";
    sqlx::query(all_others).execute(&pool).await?;
    until_unready(&world.projector, "read-only").await?;
    until_unready(&world.timeout, "read-only").await?;

    // Existing connections stay read-only; only new ones may write.
    let writer = PgPool::connect(&format!(
        "{}?options=-c%20default_transaction_read_only%3Doff",
        world.stack.setting("DATABASE_URL")
    ))
    .await?;
    alter(
        &writer,
        "ALTER DATABASE {} RESET default_transaction_read_only",
    )
    .await?;
    eventually_within(Duration::from_secs(10), "the fold goes on", || async {
        let path = "/readyz";
        let url = format!("{}{path}", world.projector.admin_url());
        Ok(reqwest::get(url).await?.status() == 200)
    })
    .await?;
    trade.crowd.flows(50).await?;
    trade.end(&world).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_adds_to_the_tables_disturbs_nobody_and_outlives_a_rebuild() -> Result<()>
{
    let world = World::start()?;
    let trade = Trade::begin(&world).await?;
    let pool = world.database().await?;
    let reader = format!("reader_{}", std::process::id());
    for sql in [
        "CREATE INDEX CONCURRENTLY orders_by_amount ON orders (amount_cents)",
        "CREATE UNIQUE INDEX \"Vouchers by title\" ON vouchers (title, voucher_id) WHERE stock_left > 0",
        "CREATE VIEW takings WITH (security_barrier) AS SELECT voucher_id, sum(amount_cents) AS cents FROM orders GROUP BY 1",
        "VACUUM FULL orders",
        // Without CONCURRENTLY it locks the table before its indexes, and the fold locks them in the other order, which
        // is a deadlock.
        "REINDEX TABLE CONCURRENTLY orders",
        "ANALYZE",
        &format!("CREATE ROLE {reader}"),
        &format!("GRANT SELECT ON orders, vouchers, takings TO {reader}"),
    ] {
        sqlx::query(sql)
            .execute(&pool)
            .await
            .context(sql.to_owned())?;
        trade.crowd.flows(20).await?;
    }
    rebuild(&world)?;
    trade.crowd.flows(50).await?;
    trade.end(&world).await?;
    let mut transaction = pool.begin().await?;
    sqlx::query(&format!("SET LOCAL ROLE {reader}"))
        .execute(&mut *transaction)
        .await?;
    let alike: bool = sqlx::query_scalar(
        "SELECT (SELECT sum(cents) FROM takings) = (SELECT sum(amount_cents) FROM orders)",
    )
    .fetch_one(&mut *transaction)
    .await?;
    ensure!(alike, "the view reads the tables of before");
    transaction.rollback().await?;
    let indexes: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_indexes
          WHERE schemaname = current_schema() AND indexname IN ('orders_by_amount', 'Vouchers by title')",
    )
    .fetch_one(&pool)
    .await?;
    assert_eq!(indexes, 2);
    sqlx::raw_sql(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}"))
        .execute(&pool)
        .await?;
    Ok(())
}

/// The addition is not in the log, so the copy could not have it. This is reported before anything is folded.
#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_does_not_begin_over_what_it_would_lose() -> Result<()> {
    let world = World::start()?;
    let trade = Trade::begin(&world).await?;
    let pool = world.database().await?;
    for (adds, takes_away, told) in [
        (
            "ALTER TABLE orders ADD COLUMN note text",
            "ALTER TABLE orders DROP COLUMN note",
            "column orders.note",
        ),
        (
            "CREATE TABLE notes (order_id uuid REFERENCES orders, note text)",
            "DROP TABLE notes",
            "constraint notes_order_id_fkey on table notes",
        ),
        (
            "CREATE MATERIALIZED VIEW stale AS SELECT voucher_id, count(*) FROM orders GROUP BY 1",
            "DROP MATERIALIZED VIEW stale",
            "materialized view stale",
        ),
        (
            "CREATE PUBLICATION feed FOR TABLE orders",
            "DROP PUBLICATION feed",
            "publication of table orders in publication feed",
        ),
        (
            "CREATE POLICY everything ON orders USING (true)",
            "DROP POLICY everything ON orders",
            "policy everything on table orders",
        ),
    ] {
        sqlx::query(adds).execute(&pool).await.context(adds)?;
        let refused = world.refused(&["rebuild", "orders", "start"])?;
        ensure!(refused.contains(told), "{adds}: {refused}");
        world.execute(&["rebuild", "orders", "abort"])?;
        sqlx::query(takes_away).execute(&pool).await?;
    }
    rebuild(&world)?;
    trade.end(&world).await.map(drop)
}
