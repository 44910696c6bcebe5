//! PostgreSQL behind PgBouncer, and tables in a schema other than `public`: sales, orders, payments, expiries and every
//! command of the operators work as with a direct connection.

use anyhow::{Context, Result, ensure};
use seckill_testkit::service::run_binary;
use seckill_testkit::{PgBouncer, PoolMode, TestStack};
use seckill_tests::{Crowd, EXECUTE, Trade, World};

/// A name that has to be quoted.
const SCHEMA: &str = "Shop 1";

/// Services and commands that reach PostgreSQL only through the pooler.
struct Site {
    world: World,
    url: String,
    _pooler: Option<PgBouncer>,
}

impl Site {
    fn start(pooler: Option<(PoolMode, &str)>) -> Result<Self> {
        let stack = TestStack::builder().schema(SCHEMA).start()?;
        let direct = stack.setting("DATABASE_URL").to_owned();
        let (user, rest) = direct.split_once('@').context("a user")?;
        let (server, database) = rest.split_once('/').context("a database")?;
        let (_, name) = user.rsplit_once('/').context("a name")?;
        let pooler =
            pooler.map(|(mode, extra)| PgBouncer::before(server.parse()?, name, mode, extra));
        let pooler = pooler.transpose()?;
        let url = pooler.as_ref().map_or_else(
            || direct.clone(),
            |pooler| format!("{user}@127.0.0.1:{}/{database}", pooler.port()),
        );
        let world = World::on(stack, &[("DATABASE_URL", &url)])?;
        Ok(Self {
            world,
            url,
            _pooler: pooler,
        })
    }

    fn seckillctl(&self, command: &[&str]) -> Result<String> {
        let mut env = self.world.stack.env().clone();
        env.insert("DATABASE_URL".to_owned(), self.url.clone());
        tokio::task::block_in_place(|| run_binary("seckillctl", command, &env))
    }

    fn rebuild(&self, command: &str) -> Result<String> {
        self.seckillctl(&[&["rebuild", "orders", command], &EXECUTE[..]].concat())
    }

    /// Whether a schema has the tables of a rebuild.
    async fn has_tables(&self, schema: &str) -> Result<bool> {
        let pool = self.world.database().await?;
        let there = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'orders')",
        );
        Ok(there.bind(schema).fetch_one(&pool).await?)
    }

    /// Runs a whole sale with orders that are paid, cancelled and expired, and reads them.
    async fn sells(&self) -> Result<()> {
        let world = &self.world;
        let trade = Trade::begin(world).await?;
        self.rebuilds(&trade.crowd).await?;
        trade.end(world).await?;
        let report = self.seckillctl(&["reconcile", "--output", "json"])?;
        println!("reconcile: {report}");
        for service in [&world.ingress, &world.projector, &world.timeout] {
            let says = service.output()?;
            for trouble in ["panicked", "prepared statement"] {
                let line = says.lines().find(|line| line.contains(trouble));
                ensure!(line.is_none(), "{line:?}");
            }
        }
        Ok(())
    }

    /// Promotes a rebuild and rolls it back while orders keep coming in, and aborts another one that is half made.
    async fn rebuilds(&self, crowd: &Crowd) -> Result<()> {
        self.rebuild("start")?;
        ensure!(self.has_tables("rebuild_1_Shop 1").await?);
        for command in ["verify", "promote", "rollback", "promote"] {
            crowd.flows(20).await?;
            self.seckillctl(&["rebuild", "orders", "status"])?;
            match command {
                "verify" => self.seckillctl(&["rebuild", "orders", command])?,
                _ => self.rebuild(command)?,
            };
        }
        self.rebuild("prune")?;
        self.seckillctl(&["rebuild", "orders", "check"])?;

        self.rebuild("start")?;
        let pool = self.world.database().await?;
        // The state after a rebuild has died in the middle of making its tables.
        for sql in [
            "UPDATE rebuilds SET phase = 'loading' WHERE id = 2",
            "DROP TABLE \"rebuild_2_Shop 1\".view_positions",
        ] {
            sqlx::query(sql).execute(&pool).await?;
        }
        self.seckillctl(&["rebuild", "orders", "status"])?;
        self.rebuild("abort")?;
        ensure!(!self.has_tables("rebuild_2_Shop 1").await?);
        ensure!(self.has_tables(SCHEMA).await?);
        self.seckillctl(&["db", "migrate"]).map(drop)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_not_public_is_as_good() -> Result<()> {
    Site::start(None)?.sells().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_held_through_pgbouncer_in_session_mode() -> Result<()> {
    Site::start(Some((PoolMode::Session, "")))?.sells().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_is_held_through_pgbouncer_in_transaction_mode() -> Result<()> {
    Site::start(Some((PoolMode::Transaction, "")))?
        .sells()
        .await
}

/// Many poolers are configured like this, for clients that send such settings.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_drops_settings_at_the_start_is_recognised() -> Result<()> {
    let drops = "ignore_startup_parameters = extra_float_digits,options";
    Site::start(Some((PoolMode::Transaction, drops)))?
        .sells()
        .await
}
