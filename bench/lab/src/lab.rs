//! The place where one sale of one rung happens.

use std::time::Duration;

use crate::gate::Gate;
use crate::scenario::{Plan, Scenario};
use crate::store::{Cache, Database};
use crate::strategy::Failure;

/// Connections beyond one a buyer: for what a rung runs beside them.
const SPARE_CONNECTIONS: usize = 2;

/// Where the stores are.
#[derive(Debug, Clone)]
pub struct Stores {
    /// A PostgreSQL database that may be written to at will.
    pub database_url: String,
    /// A Redis of which no key is in use.
    pub redis_url: String,
}

/// The stores of one sale, and its critical point.
#[derive(Debug)]
pub struct Lab {
    /// PostgreSQL, with `stock` (one row: `left_units`, `version`, `fence`) and `orders` (`user_id`).
    pub database: Database,
    /// Redis, without any key.
    pub cache: Cache,
    /// To be passed where it hurts.
    pub gate: Gate,
    /// Units on sale.
    pub stock: i64,
    /// How long a Redis lock lasts.
    pub lease: Duration,
    /// How long to wait for a Redis lock.
    pub patience: Duration,
}

impl Lab {
    /// Makes the tables that all rungs share, with the stock in them.
    ///
    /// # Errors
    /// When a store does not answer.
    pub async fn open(
        stores: &Stores,
        name: &str,
        scenario: Scenario,
        plan: &Plan,
    ) -> Result<Self, Failure> {
        let nonce = fastrand::u32(..);
        let schema = format!("lab_{nonce:08x}");
        let connections = plan.concurrency + SPARE_CONNECTIONS;
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let database = Database::connect(&stores.database_url, &schema, connections).await?;
        // No CHECK and no unique index here: what a rung is protected by, it says itself.
        database
            .execute(
                "CREATE TABLE stock (left_units bigint NOT NULL, version bigint NOT NULL DEFAULT 0,
                                     fence bigint NOT NULL DEFAULT 0)",
                &[],
            )
            .await?;
        database
            .execute("CREATE TABLE orders (user_id bigint NOT NULL)", &[])
            .await?;
        let stock = i64::try_from(plan.stock).unwrap_or(i64::MAX);
        database
            .execute("INSERT INTO stock (left_units) VALUES ($1)", &[stock])
            .await?;
        let prefix = format!("lab:{name}:{}:{nonce:08x}", scenario.label());
        Ok(Self {
            database,
            cache: Cache::connect(&stores.redis_url, &prefix).await?,
            gate: Gate::new(plan.trap),
            stock,
            lease: plan.lease,
            // Shorter than a buyer's, who is to be told why.
            patience: plan.patience / 2,
        })
    }

    /// [`Lab::lease`], as Redis takes it.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        u64::try_from(self.lease.as_millis()).unwrap_or(u64::MAX)
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
}
