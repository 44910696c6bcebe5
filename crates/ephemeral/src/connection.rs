//! A connection that is made again when it breaks: nothing behind it has to survive that.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Pipeline, RedisError, ScriptInvocation, ServerErrorKind};
use seckill_stock::RedisServer;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::server::{Connection, Server};

/// After a failure nobody waits for a time-out again so soon: whoever can do without does.
const REST: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EphemeralError {
    /// The URL is not a Redis URL.
    #[error("{0}")]
    Misconfigured(String),
    /// Redis does not answer; whether a command was carried out is not known.
    #[error("Redis: {0}")]
    Away(String),
    /// Redis refused the command.
    #[error("Redis refuses: {0}")]
    Refused(String),
}

/// The handle. Cheap to clone; clones share one connection.
#[derive(Clone)]
pub struct Ephemeral(Arc<Inner>);

struct Inner {
    prefix: String,
    server: Server,
    current: RwLock<Current>,
    connecting: Mutex<()>,
}

#[derive(Default)]
struct Current {
    connection: Option<Connection>,
    /// Counts connections: a late failure of an earlier one must not end its successor.
    generation: u64,
    failed: Option<(Instant, String)>,
}

impl Ephemeral {
    /// Reads the URL; connects when first used. The deployment's `prefix` stands before every name of
    /// [`Self::name`]; it has no braces.
    ///
    /// # Errors
    /// [`EphemeralError::Misconfigured`].
    pub fn new(server: impl Into<RedisServer>, prefix: &str) -> Result<Self, EphemeralError> {
        Ok(Self(Arc::new(Inner {
            prefix: prefix.to_owned(),
            server: Server::parse(&server.into())?,
            current: RwLock::default(),
            connecting: Mutex::new(()),
        })))
    }

    /// What something is called in this deployment: every key has to be named by it.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.0.prefix)
    }

    /// Runs one command.
    ///
    /// # Errors
    /// When Redis is away, at once if it was a moment ago, or refuses.
    pub async fn command<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, EphemeralError> {
        let (mut connection, generation) = self.connection().await?;
        let answer = command.query_async(&mut connection).await;
        answer.map_err(|error| self.failed(generation, &error))
    }

    /// Runs commands in one round trip. In a Cluster all their keys have to share a slot.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn pipeline<T: FromRedisValue>(
        &self,
        commands: &Pipeline,
    ) -> Result<T, EphemeralError> {
        let (mut connection, generation) = self.connection().await?;
        let answer = commands.query_async(&mut connection).await;
        answer.map_err(|error| self.failed(generation, &error))
    }

    /// Runs a script, and loads it first where the server does not have it.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub async fn script<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, EphemeralError> {
        let (mut connection, generation) = self.connection().await?;
        let answer = invocation.invoke_async(&mut connection).await;
        answer.map_err(|error| self.failed(generation, &error))
    }

    async fn connection(&self) -> Result<(Connection, u64), EphemeralError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _one_for_all = self.0.connecting.lock().await;
        if let Some(known) = self.known() {
            return known;
        }
        match self.0.server.connect().await {
            Ok(connection) => {
                let mut current = self.write();
                current.generation += 1;
                current.connection = Some(connection.clone());
                current.failed = None;
                Ok((connection, current.generation))
            }
            Err(error) => {
                let why = error.to_string();
                tracing::warn!(error = why, "no connection to Redis for what may be lost");
                self.write().failed = Some((Instant::now(), why.clone()));
                Err(EphemeralError::Away(why))
            }
        }
    }

    /// The connection there is, or the failure of a moment ago.
    fn known(&self) -> Option<Result<(Connection, u64), EphemeralError>> {
        let current = self.0.current.read();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        if let Some((at, why)) = &current.failed
            && at.elapsed() < REST
        {
            return Some(Err(EphemeralError::Away(why.clone())));
        }
        let connection = current.connection.clone()?;
        Some(Ok((connection, current.generation)))
    }

    fn failed(&self, generation: u64, error: &RedisError) -> EphemeralError {
        if !needs_new_connection(error) {
            return EphemeralError::Refused(error.to_string());
        }
        let why = error.to_string();
        let mut current = self.write();
        if current.generation == generation {
            current.connection = None;
            // A new connection may be good at once after one that was closed, but not after a
            // time-out: the server hangs.
            if error.is_timeout() {
                current.failed = Some((Instant::now(), why.clone()));
            }
        }
        EphemeralError::Away(why)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Current> {
        let current = self.0.current.write();
        current.unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Ephemeral {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ephemeral").finish_non_exhaustive()
    }
}

/// Broken, silent, or to a server that is no longer the master.
fn needs_new_connection(error: &RedisError) -> bool {
    let demoted = matches!(
        error.kind(),
        redis::ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        )
    );
    demoted || error.is_io_error() || error.is_timeout() || error.is_unrecoverable_error()
}
