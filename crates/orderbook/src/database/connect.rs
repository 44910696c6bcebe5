//! The database, and how to connect to it, also through a pooler.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

use crate::database::connections::{Pool, PoolOptions, Session};
use crate::database::error::OrderbookError;

/// How to reach the database, and how long to wait for it.
#[derive(Clone)]
pub struct OrderbookOptions {
    /// `postgres://user:password@host:port/database`, parameters as libpq's.
    pub database_url: String,
    /// The name of the connections in `pg_stat_activity`.
    pub application_name: String,
    /// The most connections at a time.
    pub max_connections: u32,
    /// Whether all connections are made at the start and kept. Then this process can continue when other
    /// clients use all connections that the server allows. Otherwise they are opened and closed with the demand.
    pub holds_connections: bool,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take; those that touch whole tables are given more by their callers.
    /// A connection that does not answer for two seconds longer is closed.
    pub statement_timeout: Duration,
    /// How long a transaction may wait for its client. A projector that was stopped in the middle
    /// of a batch must not keep the lock of the partition, which its successor needs.
    pub idle_transaction_timeout: Duration,
}

/// The view in PostgreSQL. Cheap to clone: clones share one pool.
#[derive(Debug, Clone)]
pub struct Orderbook {
    pub(crate) pool: Pool,
}

/// Whether `url` can be the address of a database: [`OrderbookOptions::database_url`].
///
/// # Errors
/// What is wrong with it, without the password that may be in it.
pub fn check_database_url(url: &str) -> Result<(), String> {
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme))
    {
        return Err("it is no postgres://user:password@host:port/database".to_owned());
    }
    let parsed = PgConnectOptions::from_str(url);
    parsed.map(drop).map_err(|error| error.to_string())
}

impl Orderbook {
    /// Makes the pool. Connections are made when they are needed, so that a service can start
    /// while the database is away; [`Self::ping`] says whether it is there.
    ///
    /// # Errors
    /// When `database_url` is not one.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn connect(options: &OrderbookOptions) -> Result<Self, OrderbookError> {
        let millis = |timeout: Duration| timeout.as_millis().to_string();
        let connect = PgConnectOptions::from_str(&options.database_url)?
            .application_name(&options.application_name);
        let settings = vec![
            ("statement_timeout", millis(options.statement_timeout)),
            (
                "idle_in_transaction_session_timeout",
                millis(options.idle_transaction_timeout),
            ),
            // A generic plan that was made while a table was empty would scan the table during the
            // whole life of the connection. Planning again costs a fraction of a millisecond.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            // The planner overestimates the cost of a batch's arrays. It would use JIT compilation or parallel
            // workers, which take longer.
            ("jit", "off".to_owned()),
            ("max_parallel_workers_per_gather", "0".to_owned()),
        ];
        let pool = PoolOptions {
            max_connections: options.max_connections,
            holds_connections: options.holds_connections,
            acquire_timeout: options.acquire_timeout,
            statement_timeout: options.statement_timeout,
        };
        Ok(Self {
            pool: Pool::new(Session::new(connect, settings), pool),
        })
    }

    /// The same database, with the tables of another schema. A crash of the database may lose the last
    /// transactions, rows and position together, so no COMMIT has to wait for the disk.
    pub(crate) fn over_schema(&self, schema: &str, max_connections: u32) -> Self {
        let settings = [("search_path", schema), ("synchronous_commit", "off")];
        let options = PoolOptions {
            max_connections,
            ..self.pool.options()
        };
        Self {
            pool: Pool::new(self.pool.session().with(&settings), options),
        }
    }

    /// Asks the database for an answer.
    ///
    /// # Errors
    /// When there is none within the timeouts.
    pub async fn ping(&self) -> Result<(), OrderbookError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes the connections after the calls under way.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
