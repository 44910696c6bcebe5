//! The place where one sale of one rung happens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use seckill_testkit::Redis;
use serde::{Deserialize, Serialize};
use tokio::task::{block_in_place, spawn_blocking};

use crate::failure::Failure;
use crate::gate::{Gate, Trap};
use crate::pipeline::Pipeline;
use crate::plan::{Fault, Plan, PoolSize};
use crate::store::{Cache, Database, Stores, Trips};

/// Connections beyond one a buyer: for what a rung runs beside them.
const SPARE_CONNECTIONS: usize = 2;
/// For one buyer in a process of its own.
const WORKER_CONNECTIONS: usize = 2;
/// Longer than anybody waits.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(60);

/// All that a run needs.
#[derive(Debug, Clone)]
pub struct LabWorld {
    pub stores: Stores,
    /// This package's program: it runs one buyer in a process of its own.
    pub program: PathBuf,
    /// The project's own services, for the last rung.
    pub pipeline: Option<Arc<Pipeline>>,
}

/// One sale, as a process finds it that takes part in it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Site {
    /// Where it is.
    pub stores: Stores,
    /// The schema in PostgreSQL.
    pub schema: String,
    /// What its keys in Redis begin with.
    pub prefix: String,
    /// Units on sale.
    pub stock: i64,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long to wait for a Redis lock.
    pub patience: Duration,
}

/// What a sale has cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoundTrips {
    /// To PostgreSQL.
    pub database: u64,
    /// To Redis.
    pub redis: u64,
}

/// The stores of one sale, and its critical point.
#[derive(Debug)]
pub struct Lab {
    /// PostgreSQL, with `stock` (one row: `left_units`, `version`, `fence`) and `orders` (`user_id`).
    pub database: Database,
    /// The first Redis, without any key.
    pub cache: Cache,
    /// All of them, the first one included.
    pub caches: Vec<Cache>,
    /// To be passed where it hurts.
    pub gate: Gate,
    /// To be passed before a lease is given back.
    pub exit: Gate,
    /// Units on sale.
    pub stock: i64,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long to wait for a Redis lock.
    pub patience: Duration,
    /// The project's own services, for the last rung.
    pub pipeline: Option<Arc<Pipeline>>,
    /// Where all this is.
    pub site: Site,
    /// Redis servers of this sale alone, to be killed.
    servers: Mutex<Vec<Redis>>,
}

impl Lab {
    /// Makes the tables that all rungs share, with the stock in them. A sale whose Redis will be killed
    /// gets servers of its own, as many as the rung uses.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn found(
        world: &LabWorld,
        name: &str,
        plan: &Plan,
        redis_servers: usize,
    ) -> Result<Self> {
        let mut stores = world.stores.clone();
        stores.redis_urls.truncate(redis_servers);
        let mut servers = Vec::new();
        let strikes = plan.fault == Some(Fault::Restart) || plan.dead_servers > 0;
        if strikes && world.pipeline.is_none() {
            let starts = (0..redis_servers).map(|_| spawn_blocking(Redis::start));
            servers = try_join_all(starts)
                .await?
                .into_iter()
                .collect::<Result<_>>()?;
            stores.redis_urls = servers.iter().map(Redis::url).collect();
        }
        let nonce = fastrand::u32(..);
        let site = Site {
            stores,
            schema: format!("lab_{nonce:08x}"),
            prefix: format!("lab:{name}:{nonce:08x}"),
            stock: i64::try_from(plan.stock)?,
            lease: plan.lease,
            // Shorter than a buyer's, who is to be told why.
            patience: plan.patience / 2,
        };
        let pool = plan.pool.unwrap_or(PoolSize {
            connections: plan.concurrency + SPARE_CONNECTIONS,
            patience: CONNECTION_PATIENCE,
        });
        let mut lab = Self::enter(site, pool, plan.trap).await?;
        lab.exit = Gate::new(plan.exit);
        lab.pipeline.clone_from(&world.pipeline);
        lab.servers = Mutex::new(servers);
        lab.make_tables().await?;
        Ok(lab)
    }

    /// Takes part in a sale that another process has founded, with one buyer, who is held at the gate.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn join(site: Site) -> Result<Self> {
        let pool = PoolSize {
            connections: WORKER_CONNECTIONS,
            patience: CONNECTION_PATIENCE,
        };
        Self::enter(site, pool, Trap::Hold(0)).await
    }

    async fn enter(site: Site, pool: PoolSize, trap: Trap) -> Result<Self> {
        let url = &site.stores.database_url;
        let connections = u32::try_from(pool.connections)?;
        let database = Database::connect(url, &site.schema, connections, pool.patience);
        let trips = Trips::default();
        let urls = site.stores.redis_urls.iter();
        let caches = urls.map(|url| Cache::connect(url, &site.prefix, &trips));
        let caches = try_join_all(caches).await?;
        Ok(Self {
            database: database.await?,
            cache: caches.first().context("a Redis server")?.clone(),
            caches,
            gate: Gate::new(trap),
            exit: Gate::new(Trap::None),
            stock: site.stock,
            lease: site.lease,
            patience: site.patience,
            pipeline: None,
            site,
            servers: Mutex::default(),
        })
    }

    async fn make_tables(&self) -> Result<(), Failure> {
        // No CHECK and no unique index here: what a rung is protected by, it says itself.
        let tables = [
            "CREATE TABLE stock (left_units bigint NOT NULL, version bigint NOT NULL DEFAULT 0,
                                 fence bigint NOT NULL DEFAULT 0)",
            "CREATE TABLE orders (user_id bigint NOT NULL)",
        ];
        self.database.make_schema(&self.site.schema).await?;
        for table in tables {
            self.database.execute(table, &[]).await?;
        }
        let stock = "INSERT INTO stock (left_units) VALUES ($1)";
        self.database.execute(stock, &[self.stock]).await?;
        Ok(())
    }

    /// [`Lab::lease`], as Redis takes it.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// Statements and commands sent by this process.
    #[must_use]
    pub fn counted(&self) -> RoundTrips {
        RoundTrips {
            database: self.database.trips.count(),
            redis: self.cache.trips.count(),
        }
    }

    /// Orders that are rows now.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn sold(&self) -> Result<i64, Failure> {
        let count = self.database.number("SELECT count(*) FROM orders", &[]);
        Ok(count.await?.unwrap_or(0))
    }

    /// Orders beyond the first of the same user.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn duplicates(&self) -> Result<i64, Failure> {
        let sql = "SELECT count(*) - count(DISTINCT user_id) FROM orders";
        Ok(self.database.number(sql, &[]).await?.unwrap_or(0))
    }

    /// Writes down what this sale's own Redis servers hold: what they will come back with.
    ///
    /// # Errors
    /// When one cannot.
    pub fn snapshot_redis(&self) -> Result<()> {
        let servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter().try_for_each(Redis::snapshot)
    }

    /// Kills a majority of this sale's own Redis servers and starts them from the snapshot.
    ///
    /// # Errors
    /// When one does not come back.
    pub async fn restart_redis(&self) -> Result<()> {
        {
            let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
            let majority = servers.len() / 2 + 1;
            let mut struck = servers.iter_mut().take(majority);
            block_in_place(|| struck.try_for_each(Redis::restart_from_snapshot))?;
        }
        for cache in &self.caches {
            cache.reconnect().await?;
        }
        Ok(())
    }

    /// Kills so many of this sale's own Redis servers.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill_redis(&self, count: usize) -> Result<()> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.iter_mut().take(count).try_for_each(Redis::kill)
    }

    /// What a step of the clock of a majority of the Redis servers does to this sale: every lease on
    /// them is over. (The server's own clock cannot be stepped for one sale.)
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn expire_leases(&self) -> Result<(), Failure> {
        let majority = self.caches.len() / 2 + 1;
        for cache in &self.caches[..majority] {
            cache.expire_leases().await?;
        }
        Ok(())
    }
}
