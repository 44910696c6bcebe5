//! One connection to one server, and the fence that was read over it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo, Pipeline, Value};
use redis::{RedisError, RedisResult};
use seckill_domain::Timestamp;
use tokio::time::Instant;

use crate::StockError;
use crate::error::needs_new_connection;
use crate::reply::Reply;
use crate::script::Script;

/// A sale behind another fence is refused to every call until it is loaded anew, which takes
/// seconds: a connection this young read its fence a moment ago, and a new one would read the same.
const FENCE_RECHECK: Duration = Duration::from_millis(250);

const KEEPALIVE: Duration = Duration::from_secs(15);

/// Where Redis is, and how long to wait for it.
#[derive(Clone)]
pub struct StockOptions {
    /// `redis://[user:password@]host:port[/db]`.
    pub url: String,
    /// How long a call waits for its answer.
    pub response_timeout: Duration,
    /// How long a new connection may take to be made.
    pub connect_timeout: Duration,
}

impl StockOptions {
    /// A response time-out of 500 ms and a connect time-out of 1 s.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
        }
    }

    pub(crate) fn client(&self) -> Result<Client, StockError> {
        let tcp = TcpSettings::default()
            .set_nodelay(true)
            .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE));
        let info = self
            .url
            .as_str()
            .into_connection_info()
            .map(|info| info.set_tcp_settings(tcp));
        info.and_then(Client::open)
            .map_err(|error| StockError::Misconfigured(error.to_string()))
    }
}

impl fmt::Debug for StockOptions {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StockOptions")
            .field("response_timeout", &self.response_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// One life of one master: `run_id:master_replid`. A restart changes the first part, a failover the
/// second; either may have lost writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence(String);

impl Fence {
    /// As scripts compare it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_info(info: &str) -> Result<Self, StockError> {
        if info_field(info, "role")? != "master" {
            let not_master = (ErrorKind::Client, "the server is not a master");
            return Err(StockError::Unavailable(RedisError::from(not_master)));
        }
        let run_id = info_field(info, "run_id")?;
        let replication_id = info_field(info, "master_replid")?;
        Ok(Self(format!("{run_id}:{replication_id}")))
    }
}

fn info_field<'a>(info: &'a str, name: &str) -> Result<&'a str, StockError> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .ok_or_else(|| StockError::Protocol(format!("INFO has no {name}")))
}

/// A connection that does not reconnect behind our back, its fence and its loaded scripts. The three
/// are one value: read once, thrown away together.
#[derive(Debug)]
pub struct StockConnection {
    connection: MultiplexedConnection,
    fence: Fence,
    script_hashes: Vec<String>,
    made_at: Instant,
    stale: AtomicBool,
}

impl StockConnection {
    pub(crate) async fn connect(
        client: &Client,
        options: &StockOptions,
    ) -> Result<Self, StockError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.response_timeout));
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await?;
        let mut setup = redis::pipe();
        setup.cmd("INFO");
        for script in Script::ALL {
            setup.cmd("SCRIPT").arg("LOAD").arg(script.source());
        }
        let mut answers: Vec<String> = setup.query_async(&mut connection).await?;
        if answers.len() != 1 + Script::COUNT {
            return Err(StockError::Protocol(
                "SCRIPT LOAD did not answer".to_owned(),
            ));
        }
        let fence = Fence::from_info(&answers.remove(0))?;
        tracing::debug!(fence = fence.as_str(), "connected to Redis");
        Ok(Self {
            connection,
            fence,
            script_hashes: answers,
            made_at: Instant::now(),
            stale: AtomicBool::new(false),
        })
    }

    /// The fence that was read when the connection was made.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether the connection may still be used; otherwise [`crate::Stock::connection`] makes another.
    pub(crate) fn is_usable(&self) -> bool {
        !self.stale.load(Ordering::Acquire)
    }

    /// Reads the server's fence again; another one than before ends this connection. To be called
    /// now and then by whoever keeps connections for long: a master that was demoted and promoted
    /// again in between would go unnoticed by a caller who made no call meanwhile.
    ///
    /// # Errors
    /// As any call.
    pub async fn fence_still_holds(&self) -> Result<bool, StockError> {
        let now = self.info().await.and_then(|info| Fence::from_info(&info));
        let holds = now.as_ref().is_ok_and(|fence| *fence == self.fence);
        if !holds {
            self.end();
        }
        now.map(|_| holds)
    }

    /// Checks that the server never evicts keys.
    pub(crate) async fn check_server(&self) -> Result<(), StockError> {
        let info = self.info().await?;
        match info_field(&info, "maxmemory_policy")? {
            "noeviction" => Ok(()),
            other => Err(StockError::Misconfigured(format!(
                "maxmemory-policy is {other}; set it to noeviction, or Redis drops sales"
            ))),
        }
    }

    /// Redis' clock.
    ///
    /// # Errors
    /// As any call.
    pub async fn now(&self) -> Result<Timestamp, StockError> {
        let (seconds, micros): (i64, i64) = self.query(&redis::cmd("TIME")).await?;
        Ok(Timestamp::from_micros(seconds * 1_000_000 + micros))
    }

    /// A call of `script`, to which its arguments from ARGV\[2\] on are still to be added.
    pub(crate) fn invocation(&self, script: Script, keys: &[&str]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.script_hashes[script as usize])
            .arg(keys.len())
            .arg(keys)
            .arg(self.fence.as_str());
        cmd
    }

    /// Runs a call made by [`Self::invocation`].
    pub(crate) async fn run(&self, invocation: &Cmd) -> Result<Reply, StockError> {
        let value = self.query(invocation).await?;
        self.reply(value)
    }

    /// Runs calls made by [`Self::invocation`] in one round trip; one reply each, in order.
    pub(crate) async fn run_all(&self, invocations: &Pipeline) -> Result<Vec<Reply>, StockError> {
        let mut connection = self.connection.clone();
        let values: Vec<Value> = self.seen(invocations.query_async(&mut connection).await)?;
        values.into_iter().map(|value| self.reply(value)).collect()
    }

    fn reply(&self, value: Value) -> Result<Reply, StockError> {
        let reply = Reply::new(value)?;
        if reply.is_foreign() && self.made_at.elapsed() >= FENCE_RECHECK {
            self.end();
        }
        Ok(reply)
    }

    async fn info(&self) -> Result<String, StockError> {
        self.query(&redis::cmd("INFO")).await
    }

    async fn query<T: redis::FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StockError> {
        let mut connection = self.connection.clone();
        self.seen(cmd.query_async(&mut connection).await)
    }

    fn seen<T>(&self, result: RedisResult<T>) -> Result<T, StockError> {
        result.map_err(|error| {
            if needs_new_connection(&error) {
                self.end();
            }
            StockError::from(error)
        })
    }

    fn end(&self) {
        self.stale.store(true, Ordering::Release);
    }
}
