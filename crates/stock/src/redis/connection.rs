//! One connection to one server, and the fence that was read over it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use rustix::time::{ClockId, clock_gettime};
use seckill_domain::Timestamp;
use tokio::time::Instant;

use crate::redis::ask::connection_config;
use crate::redis::error::{StockError, Verdict, verdict};
use crate::redis::nodes::Deployment;
use crate::redis::reply::{Reply, parse};
use crate::redis::script::Script;
use crate::redis::tls::RedisServer;

/// Every call for a sale that has another fence is refused until the sale is loaded again, which takes seconds. A
/// connection that is younger than this is kept meanwhile, because a new one would read the same fence.
const FENCE_RECHECK: Duration = Duration::from_millis(250);

/// If no answer has come over a connection for longer than this, and a replica may have been promoted, the caller
/// first asks which server is the master: this one may have been stopped meanwhile, and not know of its successor.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Redis counts its replicas once a second. Until then a master that continues after a stop may still grant units.
const REPLICA_CHECK: Duration = Duration::from_secs(1);

/// This script writes nothing. But it is not marked as read-only, so a server that refuses writes refuses it too.
const WRITABLE: &str = "#!lua\nreturn 1";

/// The address of Redis, the time-outs, and whose sales are served.
#[derive(Clone)]
pub struct StockOptions {
    /// The address of Redis.
    pub server: RedisServer,
    /// How long a call waits for its answer.
    pub response_timeout: Duration,
    /// How long it may take to make a connection.
    pub connect_timeout: Duration,
    /// The prefix of every key: the deployment's `TOPIC_PREFIX`, without braces.
    pub prefix: String,
    /// The log that this deployment serves. Sales of another log are refused.
    pub log: LogIdentity,
}

/// Which log a deployment serves: the id of its Kafka cluster. Clones share one value, which may be set after they
/// are made. Until it is set, sales of any log are accepted.
#[derive(Debug, Clone, Default)]
pub struct LogIdentity(Arc<OnceLock<String>>);

impl LogIdentity {
    /// Sets the id of the Kafka cluster; later calls change nothing. An id with other characters than letters,
    /// digits, `-` and `_`, or with more than 64 of them, is ignored: Kafka makes no such id, and the scripts could
    /// not parse it.
    pub fn learn(&self, cluster_id: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if (1..=64).contains(&cluster_id.len()) && cluster_id.chars().all(plain) {
            self.0.get_or_init(|| cluster_id.to_owned());
        }
    }

    fn as_str(&self) -> &str {
        self.0.get().map_or("", String::as_str)
    }
}

impl StockOptions {
    /// A response time-out of 500 ms, a connect time-out of 1 s, no prefix, and the sales of any log.
    #[must_use]
    pub fn new(server: impl Into<RedisServer>) -> Self {
        Self {
            server: server.into(),
            response_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_secs(1),
            prefix: String::new(),
            log: LogIdentity::default(),
        }
    }

    /// The same for one of several deployments that may share a Redis.
    #[must_use]
    pub fn of_deployment(self, prefix: impl Into<String>, log: LogIdentity) -> Self {
        Self {
            prefix: prefix.into(),
            log,
            ..self
        }
    }
}

impl fmt::Debug for StockOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StockOptions")
            .field("response_timeout", &self.response_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}

/// Identifies a master during a time in which it has lost no writes: `run_id:master_replid`, with Sentinel also
/// `:config_epoch`, the sentinels' count of failovers. A restart changes the first part and a promotion the second;
/// both may lose writes. The third part is for a master that was cut off and becomes master again after its
/// successor has died: it never was a replica, so the first two parts stay the same, but its data are old.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fence(String);

impl Fence {
    /// The text that the scripts compare.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn from_info(info: &str, deployment: Deployment) -> Result<Self, StockError> {
        if info_field(info, "role")? != "master" {
            let not_master = (ErrorKind::Client, "the server is not a master");
            return Err(StockError::Unavailable(RedisError::from(not_master)));
        }
        let run_id = info_field(info, "run_id")?;
        let replication_id = info_field(info, "master_replid")?;
        Ok(Self(match deployment {
            Deployment::Sentinel { config_epoch } => {
                format!("{run_id}:{replication_id}:{config_epoch}")
            }
            Deployment::Single | Deployment::Cluster => format!("{run_id}:{replication_id}"),
        }))
    }
}

pub(crate) fn info_field<'a>(info: &'a str, name: &str) -> Result<&'a str, StockError> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .ok_or_else(|| StockError::Protocol(format!("INFO has no {name}")))
}

/// A connection that never reconnects by itself, with the fence that was read over it and the scripts that were loaded
/// over it. A new connection reads the fence and loads the scripts again.
#[derive(Debug)]
pub struct StockConnection {
    connection: MultiplexedConnection,
    fence: Fence,
    script_hashes: Vec<String>,
    deployment: Deployment,
    prefix: String,
    log: LogIdentity,
    made_at: Instant,
    /// When the last call that was answered was sent, in milliseconds of the boot clock.
    heard_ms: AtomicU64,
    stale: AtomicBool,
}

impl StockConnection {
    pub(crate) async fn connect(
        client: &Client,
        deployment: Deployment,
        options: &StockOptions,
    ) -> Result<Self, StockError> {
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&connection_config(options))
            .await?;
        let asked_ms = boot_ms();
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
        let fence = Fence::from_info(&answers.remove(0), deployment)?;
        tracing::debug!(fence = fence.as_str(), "connected to Redis");
        Ok(Self {
            connection,
            fence,
            script_hashes: answers,
            deployment,
            prefix: options.prefix.clone(),
            log: options.log.clone(),
            made_at: Instant::now(),
            heard_ms: AtomicU64::new(asked_ms),
            stale: AtomicBool::new(false),
        })
    }

    /// The fence that was read when the connection was made.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Whether the connection may still be used; otherwise [`crate::Stock::connection_for`] makes another.
    pub(crate) fn is_usable(&self) -> bool {
        !self.stale.load(Ordering::Acquire)
    }

    /// Whether the server has answered recently, or need not have; see [`SILENCE_MAX`].
    pub(crate) fn is_trusted(&self) -> bool {
        let silent_ms = boot_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        self.deployment == Deployment::Single || Duration::from_millis(silent_ms) < SILENCE_MAX
    }

    /// For how long a master that was cut off may go on granting units after another was promoted. A load waits for
    /// this time in addition to the promise deadline.
    ///
    /// # Errors
    /// As any call.
    pub async fn cut_off_after(&self) -> Result<Duration, StockError> {
        let limit = match self.deployment {
            Deployment::Single if !self.has_replicas().await? => return Ok(Duration::ZERO),
            Deployment::Single | Deployment::Sentinel { .. } => {
                let seconds = self.config("min-replicas-max-lag", 10).await?;
                Duration::from_secs(seconds)
            }
            Deployment::Cluster => {
                let millis = self.config("cluster-node-timeout", 15_000).await?;
                Duration::from_millis(millis)
            }
        };
        Ok(limit + REPLICA_CHECK + SILENCE_MAX)
    }

    async fn has_replicas(&self) -> Result<bool, StockError> {
        Ok(info_field(&self.info().await?, "connected_slaves")? != "0")
    }

    /// A setting of the server, or `default`, which is Redis' own default, if this user may not read it.
    async fn config(&self, name: &str, default: u64) -> Result<u64, StockError> {
        self.told_setting(name)
            .await?
            .map_or(Ok(default), |value| parse(&value))
    }

    /// A setting of the server. None if this user may not read it.
    pub(crate) async fn told_setting(&self, name: &str) -> Result<Option<String>, StockError> {
        let mut get = redis::cmd("CONFIG");
        let answer: Result<(String, String), _> = self.query(get.arg("GET").arg(name)).await;
        match answer {
            Ok((_, value)) => Ok(Some(value)),
            Err(StockError::Misconfigured(why) | StockError::Protocol(why)) => {
                tracing::warn!(name, why, "cannot read a Redis setting: default assumed");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) const fn deployment(&self) -> Deployment {
        self.deployment
    }

    /// Reads the server's fence again, and ends this connection if the fence has changed. To be called from time to
    /// time if connections are kept for long: a caller that made no call meanwhile would not notice that the master
    /// was demoted and promoted again.
    pub(crate) async fn fence_still_holds(&self) -> Result<bool, StockError> {
        let info = self.info().await;
        let now = info.and_then(|info| Fence::from_info(&info, self.deployment));
        let holds = now.as_ref().is_ok_and(|fence| *fence == self.fence);
        if !holds {
            self.end();
        }
        now.map(|_| holds)
    }

    /// Checks that the server never evicts keys, and logs a warning if a master that is cut off would go on granting
    /// units.
    pub(crate) async fn check_server(&self) -> Result<(), StockError> {
        let info = self.info().await?;
        let policy = info_field(&info, "maxmemory_policy")?;
        if policy != "noeviction" {
            return Err(StockError::Misconfigured(format!(
                "maxmemory-policy is {policy}; set it to noeviction, or Redis drops sales"
            )));
        }
        // In a Cluster a master that is cut off stops by itself.
        let may_be_cut_off = self.deployment != Deployment::Cluster && self.has_replicas().await?;
        if may_be_cut_off && self.config("min-replicas-to-write", 0).await? == 0 {
            tracing::warn!(
                "Redis has replicas and min-replicas-to-write is 0: set it to 1, or a master that \
                 was cut off goes on taking orders that are rejected later"
            );
        }
        Ok(())
    }

    /// Checks that the server accepts writes now. It does not if it cannot write its own files, has too few replicas,
    /// or is a replica itself.
    ///
    /// # Errors
    /// [`StockError::Unavailable`] with the server's reason, and as any call.
    pub async fn check_writable(&self) -> Result<(), StockError> {
        self.query(redis::cmd("EVAL").arg(WRITABLE).arg(0)).await
    }

    /// Redis' clock.
    ///
    /// # Errors
    /// As any call.
    pub async fn now(&self) -> Result<Timestamp, StockError> {
        let (seconds, micros): (i64, i64) = self.query(&redis::cmd("TIME")).await?;
        let micros = seconds
            .checked_mul(1_000_000)
            .and_then(|us| us.checked_add(micros));
        micros
            .and_then(|micros| Timestamp::new(micros).ok())
            .ok_or_else(|| StockError::Protocol(format!("its clock says {seconds} s")))
    }

    /// The prefix of every key.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A call of `script`. The caller adds the arguments from ARGV\[2\] on.
    pub(crate) fn invocation(&self, script: Script, keys: &[&str]) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.script_hashes[script as usize])
            .arg(keys.len())
            .arg(keys)
            .arg(format!("{}@{}", self.fence.as_str(), self.log.as_str()));
        cmd
    }

    /// Runs a call made by [`Self::invocation`].
    pub(crate) async fn run(&self, invocation: &Cmd) -> Result<Reply, StockError> {
        let value = self.query(invocation).await?;
        self.reply(value)
    }

    /// Runs calls made by [`Self::invocation`] in one round trip. Returns one result for each call, in order.
    pub(crate) async fn run_all(
        &self,
        mut invocations: Pipeline,
    ) -> Result<Vec<Result<Reply, StockError>>, StockError> {
        invocations.ignore_errors();
        let mut connection = self.connection.clone();
        let asked_ms = boot_ms();
        let values: RedisResult<Vec<RedisResult<Value>>> =
            invocations.query_async(&mut connection).await;
        let values = self.seen(asked_ms, values)?;
        let reply = |value| self.reply(self.seen(asked_ms, value)?);
        Ok(values.into_iter().map(reply).collect())
    }

    fn reply(&self, value: Value) -> Result<Reply, StockError> {
        let reply = Reply::new(value)?;
        if reply.is_foreign() && self.made_at.elapsed() >= FENCE_RECHECK {
            self.end();
        }
        Ok(reply)
    }

    pub(crate) async fn info(&self) -> Result<String, StockError> {
        self.query(&redis::cmd("INFO")).await
    }

    async fn query<T: redis::FromRedisValue>(&self, cmd: &Cmd) -> Result<T, StockError> {
        let mut connection = self.connection.clone();
        let asked_ms = boot_ms();
        self.seen(asked_ms, cmd.query_async(&mut connection).await)
    }

    fn seen<T>(&self, asked_ms: u64, result: RedisResult<T>) -> Result<T, StockError> {
        let error = match result {
            Ok(value) => {
                self.heard_ms.fetch_max(asked_ms, Ordering::Relaxed);
                return Ok(value);
            }
            Err(error) => error,
        };
        match verdict(&error) {
            Verdict::Keep => {}
            Verdict::Replace => self.end(),
            // A new connection would probably read the same fence, so this one is kept.
            Verdict::LocateAnew if self.made_at.elapsed() < FENCE_RECHECK => {}
            Verdict::LocateAnew => self.end(),
        }
        Err(StockError::from(error))
    }

    fn end(&self) {
        self.stale.store(true, Ordering::Release);
    }
}

/// A clock in milliseconds that also counts the time in which the machine sleeps.
fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1_000 + u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0)
}
