//! How often codes are asked for and tried: by one client, and by all. Buckets in Redis, for all instances
//! together.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Cmd, Script};
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_identity::AddressHash;

use crate::metrics;

static TAKE_TOKEN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take_token.lua")));

/// From so many wrong attempts a day on, codes are long.
const FAILURES_A_DAY: u32 = 2_000;
const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Codes, and as many attempts at codes, a minute; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerMinute {
    /// From one client: an IPv4 address, or the first half of an IPv6 one.
    pub client: u32,
    pub global: u32,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A code is mailed.
    Code,
    /// A code is tried.
    Attempt,
}

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose<'a> {
    /// That of a client.
    Client(&'a AddressHash),
    /// That of all together.
    All,
}

/// Why something may not be done now.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// The bucket is empty.
    #[error("{policy}: {per_minute} a minute are used up")]
    UsedUp {
        /// Which limit it is.
        policy: &'static str,
        /// How many it lets through a minute.
        per_minute: u32,
        /// When it will let one through again.
        retry_after: Duration,
    },
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] EphemeralError),
}

#[derive(Debug, Clone)]
pub struct Throttle {
    redis: Ephemeral,
    per_minute: PerMinute,
}

impl Throttle {
    /// Buckets in this Redis.
    #[must_use]
    pub const fn new(redis: Ephemeral, per_minute: PerMinute) -> Self {
        Self { redis, per_minute }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// As [`ThrottleError`].
    pub async fn take(&self, act: Act, whose: Whose<'_>) -> Result<(), ThrottleError> {
        self.bucket(act, whose, 1).await
    }

    /// Gives one token back: nothing came of what it was taken for. If Redis fails, it is lost.
    pub async fn give_back(&self, act: Act, whose: Whose<'_>) {
        if let Err(error) = self.bucket(act, whose, -1).await {
            tracing::debug!(%error, "a limit on the sign-in is one short for a moment");
        }
    }

    /// Counts an attempt that was not right.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn note_failure(&self) -> Result<(), EphemeralError> {
        let failed = self.failed();
        let mut commands = redis::pipe();
        commands.incr(&failed, 1).ignore();
        let expire = commands.cmd("EXPIRE").arg(&failed);
        expire.arg(DAY_SECONDS).arg("NX").ignore();
        self.redis.pipeline(&commands).await
    }

    /// Whether somebody guesses: so many attempts of the day were wrong.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn is_under_attack(&self) -> Result<bool, EphemeralError> {
        let failed: Option<u32> = self.redis.command(&Cmd::get(self.failed())).await?;
        Ok(failed.is_some_and(|failed| failed >= FAILURES_A_DAY))
    }

    fn failed(&self) -> String {
        self.redis.name("sign-in:{all}:failed")
    }

    async fn bucket(&self, act: Act, whose: Whose<'_>, tokens: i32) -> Result<(), ThrottleError> {
        let (policy, per_minute, name) = match whose {
            Whose::Client(hash) => ("sign-in-client", self.per_minute.client, hash.to_string()),
            Whose::All => ("sign-in-global", self.per_minute.global, "all".to_owned()),
        };
        if per_minute == 0 {
            return Ok(());
        }
        let part = match act {
            Act::Code => "codes",
            Act::Attempt => "attempts",
        };
        let mut call = TAKE_TOKEN.key(self.redis.name(&format!("sign-in:{{{name}}}:{part}")));
        call.arg(per_minute).arg(tokens);
        match self.redis.script::<u64>(&call).await? {
            0 => Ok(()),
            wait_ms => {
                metrics::RATE_LIMITED.with([policy]).increment(1);
                Err(ThrottleError::UsedUp {
                    policy,
                    per_minute,
                    retry_after: Duration::from_millis(wait_ms),
                })
            }
        }
    }
}
