//! The database, and how it is reached: also through a pooler.

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
    /// What the connections are called in `pg_stat_activity`.
    pub application_name: String,
    /// The most connections at a time.
    pub max_connections: u32,
    /// Whether all of them are made at the start and kept: whoever has them goes on when others take
    /// everything that the server allows. Otherwise they come and go with the demand.
    pub holds_connections: bool,
    /// How long a call waits for a connection.
    pub acquire_timeout: Duration,
    /// How long one statement may take; those that touch whole tables are given more by their callers.
    /// A connection that says nothing for two seconds longer is thrown away.
    pub statement_timeout: Duration,
    /// How long a transaction may wait for its client. A projector that was stopped in the middle
    /// of a batch must not keep the partition's lock from its successor.
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
            // A generic plan made while a table was empty would scan it for as long as the
            // connection lives. Planning anew costs a fraction of a millisecond.
            ("plan_cache_mode", "force_custom_plan".to_owned()),
            // Costs of a batch's arrays look high enough to compile, or to start processes that share the
            // work, which takes longer.
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

    /// The same database, with the tables of another schema. What is lost in a crash of the database
    /// is lost whole, position and rows: nobody has to wait for its disk.
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
