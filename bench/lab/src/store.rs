//! PostgreSQL and Redis as the rungs use them: plain statements and commands, each round trip counted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue};
use serde::{Deserialize, Serialize};
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions};
use sqlx::query::{Query, QueryScalar};
use sqlx::{PgPool, Postgres, Transaction};
use tokio::time::{sleep, timeout};

use crate::failure::Failure;

/// So that a deadlock does not cost every scenario the default second.
const DEADLOCK_TIMEOUT: &str = "50ms";
/// For connecting, on a busy machine: what a rung waits for a connection is another matter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
const REDIS_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two attempts at a lock, in milliseconds: random, so that nobody waits in step.
const POLL_MS: std::ops::RangeInclusive<u64> = 1..=4;

/// Where the stores are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stores {
    /// A PostgreSQL database that may be written to at will.
    pub database_url: String,
    /// Redis servers of which no key is in use; most rungs use the first one.
    pub redis_urls: Vec<String>,
}

/// A number of round trips.
#[derive(Debug, Clone, Default)]
pub struct Trips(Arc<AtomicU64>);

impl Trips {
    /// How many so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How far a transaction is apart from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// PostgreSQL's default: every statement sees what is committed when it starts.
    ReadCommitted,
    /// Every statement sees what was committed at the first.
    RepeatableRead,
    /// As if one transaction ran after the other.
    Serializable,
}

/// A schema of its own in a PostgreSQL database.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    /// How long a transaction waits for a connection.
    patience: Duration,
    /// Statements sent, BEGIN and COMMIT among them.
    pub trips: Trips,
}

impl Database {
    /// Connects to `url` with everything unqualified in `schema`; a transaction waits so long for a connection.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(
        url: &str,
        schema: &str,
        connections: u32,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let options = url.parse::<PgConnectOptions>()?.options([
            ("search_path", schema),
            ("deadlock_timeout", DEADLOCK_TIMEOUT),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(CONNECT_TIMEOUT)
            // A ping before every use would be a round trip that no rung asked for.
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        // All of them now: connecting is not what a rung is measured by.
        try_join_all((0..connections).map(|_| pool.acquire())).await?;
        let trips = Trips::default();
        Ok(Self {
            pool,
            patience,
            trips,
        })
    }

    /// Makes the schema.
    ///
    /// # Errors
    /// When the server refuses, or has it already.
    pub async fn make_schema(&self, schema: &str) -> Result<(), Failure> {
        let sql = format!("CREATE SCHEMA {schema}");
        sqlx::raw_sql(&sql).execute(&self.pool).await?;
        Ok(())
    }

    /// The one number that a query gives, if it gives a row.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn number(
        &self,
        sql: &'static str,
        arguments: &[i64],
    ) -> Result<Option<i64>, Failure> {
        self.trips.add_one();
        let query = bind_scalar(sqlx::query_scalar(sql), arguments);
        Ok(query.fetch_optional(&self.pool).await?)
    }

    /// Runs one statement in a transaction of its own: how many rows it touched.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn execute(&self, sql: &'static str, arguments: &[i64]) -> Result<u64, Failure> {
        self.trips.add_one();
        let query = bind(sqlx::query(sql), arguments);
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    /// As [`Database::execute`], with one argument: an array of `values`.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn execute_many(&self, sql: &'static str, values: &[i64]) -> Result<u64, Failure> {
        self.trips.add_one();
        let query = sqlx::query(sql).bind(values);
        Ok(query.execute(&self.pool).await?.rows_affected())
    }

    /// Begins a transaction, which is rolled back when dropped.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn begin(&self, isolation: Isolation) -> Result<Tx, Failure> {
        self.trips.add_one();
        let begin = match isolation {
            Isolation::ReadCommitted => "BEGIN",
            Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
            Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        };
        let begun = timeout(self.patience, self.pool.begin_with(begin)).await;
        let inner = begun.map_err(|_| Failure::NoConnection)??;
        let trips = self.trips.clone();
        Ok(Tx { inner, trips })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

#[derive(Debug)]
pub struct Tx {
    inner: Transaction<'static, Postgres>,
    trips: Trips,
}

impl Tx {
    /// As [`Database::number`].
    ///
    /// # Errors
    /// When the server refuses; the transaction can only be dropped then.
    pub async fn number(
        &mut self,
        sql: &'static str,
        arguments: &[i64],
    ) -> Result<Option<i64>, Failure> {
        self.trips.add_one();
        let query = bind_scalar(sqlx::query_scalar(sql), arguments);
        Ok(query.fetch_optional(&mut *self.inner).await?)
    }

    /// As [`Database::execute`].
    ///
    /// # Errors
    /// When the server refuses; the transaction can only be dropped then.
    pub async fn execute(&mut self, sql: &'static str, arguments: &[i64]) -> Result<u64, Failure> {
        self.trips.add_one();
        let query = bind(sqlx::query(sql), arguments);
        Ok(query.execute(&mut *self.inner).await?.rows_affected())
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// When the server refuses; then nothing of it happened.
    pub async fn commit(self) -> Result<(), Failure> {
        self.trips.add_one();
        Ok(self.inner.commit().await?)
    }
}

fn bind<'q>(
    query: Query<'q, Postgres, PgArguments>,
    arguments: &[i64],
) -> Query<'q, Postgres, PgArguments> {
    arguments
        .iter()
        .fold(query, |query, value| query.bind(*value))
}

fn bind_scalar<'q>(
    query: QueryScalar<'q, Postgres, i64, PgArguments>,
    arguments: &[i64],
) -> QueryScalar<'q, Postgres, i64, PgArguments> {
    arguments
        .iter()
        .fold(query, |query, value| query.bind(*value))
}

/// KEYS: those of one sale. What has an end, ends.
const EXPIRE_LEASES: &str = "for _, key in ipairs(KEYS) do
  if redis.call('PTTL', key) >= 0 then redis.call('PEXPIRE', key, 0) end
end";

/// Keys of its own in a Redis.
#[derive(Debug, Clone)]
pub struct Cache {
    client: redis::Client,
    connection: Arc<RwLock<MultiplexedConnection>>,
    prefix: String,
    /// Commands sent.
    pub trips: Trips,
    /// Attempts at a lock that somebody else had.
    pub refused: Trips,
}

impl Cache {
    /// Connects to `url`; all keys begin with `prefix`, and what is sent is counted in `trips`.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connect(url: &str, prefix: &str, trips: &Trips) -> Result<Self, Failure> {
        let client = redis::Client::open(url)?;
        let connection = Arc::new(RwLock::new(connection_of(&client).await?));
        Ok(Self {
            client,
            connection,
            prefix: prefix.to_owned(),
            trips: trips.clone(),
            refused: Trips::default(),
        })
    }

    /// Connects again, for all who share this: after a restart.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn reconnect(&self) -> Result<(), Failure> {
        let fresh = connection_of(&self.client).await?;
        let mut connection = self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *connection = fresh;
        Ok(())
    }

    /// Ends every lease among our keys.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn expire_leases(&self) -> Result<(), Failure> {
        let ours = redis::cmd("KEYS").arg(self.key("*")).take();
        let keys: Vec<String> = self.send(&ours).await?;
        let mut expire = redis::cmd("EVAL");
        expire.arg(EXPIRE_LEASES).arg(keys.len()).arg(keys);
        self.send(&expire).await
    }

    /// The full name of one of our keys.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    /// Sends one command.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        self.trips.add_one();
        let connection = self
            .connection
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Ok(command.query_async(&mut { connection }).await?)
    }

    /// Sends a command that takes a lock, again and again until it gives something else than nil or 0:
    /// that number, or 1 for OK.
    ///
    /// # Errors
    /// [`Failure::LockTimeout`] after `patience`; when the server refuses or does not answer.
    pub async fn take_lock(&self, command: &Cmd, patience: Duration) -> Result<i64, Failure> {
        let deadline = Instant::now() + patience;
        loop {
            match self.send::<redis::Value>(command).await? {
                redis::Value::Nil | redis::Value::Int(0) => {}
                redis::Value::Int(number) => return Ok(number),
                _ => return Ok(1),
            }
            self.refused.add_one();
            if Instant::now() >= deadline {
                return Err(Failure::LockTimeout);
            }
            sleep(Duration::from_millis(fastrand::u64(POLL_MS))).await;
        }
    }
}

async fn connection_of(client: &redis::Client) -> Result<MultiplexedConnection, Failure> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(REDIS_TIMEOUT))
        .set_response_timeout(Some(REDIS_TIMEOUT));
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    Ok(connection.await?)
}
