//! Another client takes every connection that PostgreSQL allows. Requests that need PostgreSQL are refused. Orders are
//! accepted, and the fold goes on with the connections that it has.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use seckill_testkit::TestStack;
use seckill_testkit::postgres::{Postgres, PostgresOptions};
use seckill_tests::{Crowd, SaleTerms, World, check_consistency, eventually};
use sqlx::{Connection, PgConnection};

/// Enough for the connections of the projector and the timeout service, and some others.
const MAX_CONNECTIONS: &str = "40";
const TOO_MANY_CONNECTIONS: &str = "53300";

/// A client that keeps every connection that it gets.
struct Hog {
    url: String,
    held: Vec<PgConnection>,
}

impl Hog {
    /// Takes connections until the server refuses one.
    async fn take_all(&mut self) -> Result<()> {
        loop {
            match PgConnection::connect(&self.url).await {
                Ok(connection) => self.held.push(connection),
                Err(sqlx::Error::Database(e))
                    if e.code().as_deref() == Some(TOO_MANY_CONNECTIONS) =>
                {
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Ends the connections of a service and takes them before the service can connect again.
    async fn take_those_of(&mut self, service: &str) -> Result<()> {
        loop {
            self.take_all().await?;
            let first = self.held.first_mut().context("a connection")?;
            let ended: i64 = sqlx::query_scalar(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                  WHERE application_name = $1",
            )
            .bind(service)
            .fetch_one(first)
            .await?;
            if ended == 0 {
                return Ok(());
            }
        }
    }

    /// The position of the fold, read over a connection that this client has.
    async fn folded(&mut self) -> Result<i64> {
        let first = self.held.first_mut().context("a connection")?;
        let sum = "SELECT coalesce(sum(next_offset), 0)::bigint FROM view_positions
                    WHERE view = 'orders'";
        Ok(sqlx::query_scalar(sum).fetch_one(first).await?)
    }
}

async fn everything_is_taken(world: &World) -> Result<Hog> {
    let mut hog = Hog {
        url: world.stack.setting("DATABASE_URL").to_owned(),
        held: Vec::new(),
    };
    hog.take_those_of("seckill-ingress").await?;
    Ok(hog)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a server of its own"]
async fn orders_and_the_fold_go_on_when_no_connection_is_left() -> Result<()> {
    let server = Postgres::with(PostgresOptions {
        settings: vec![("max_connections", MAX_CONNECTIONS.to_owned())],
        ..PostgresOptions::default()
    })?;
    let world = World::over(TestStack::builder().postgres(server), &[])?;
    let voucher = world.sale(SaleTerms::of(20_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(50).await?;
    let early = world.client.order(voucher, 30_000, None, 1).await?;
    let order = format!(
        "/api/v1/orders/{}",
        early.order_id().context("no order id")?
    );

    let mut hog = everything_is_taken(&world).await?;
    for round in 0..5 {
        let ledger = format!("/admin/v1/vouchers/{voucher}/ledger");
        for answer in [
            world.client.get(30_000, &order).await?,
            world.client.admin_get(&ledger).await?,
        ] {
            let says = (answer.status, answer.problem());
            assert_eq!(says, (503, "unavailable"), "round {round}: {answer:?}");
        }
        let late = world.client.order(voucher, 30_001 + round, None, 1).await?;
        assert!(late.is_reserved(), "{late:?}");
        let before = hog.folded().await?;
        crowd.flows(50).await?;
        let asked = Instant::now();
        while hog.folded().await? <= before {
            assert!(
                asked.elapsed() < Duration::from_secs(10),
                "the fold stands still"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let (refused, held) = (crowd.refused(), hog.held.len());
    assert_eq!(refused, 0, "orders need no connection");

    drop(hog);
    let free = Instant::now();
    eventually("reads are answered again", || async {
        Ok(world.client.get(30_000, &order).await?.status == 200)
    })
    .await?;
    let recovered_ms = free.elapsed().as_millis();
    crowd.flows(50).await?;
    let answers = crowd.leave().await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.rejected, 0);
    println!(
        "case connections of PostgreSQL exhausted: taken={held} orders={} refused={refused} recovered_ms={recovered_ms}",
        found.unpaid
    );
    Ok(())
}
