//! Codes and their limits in Redis. All keys of one address share a slot; the address itself is in
//! none of them.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_identity::{AddressHash, CodeHash, Limits};
use uuid::Uuid;

/// How long a code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(5 * 60);
/// How often a code may be tried.
pub const ATTEMPTS: u32 = 5;

static REQUEST_CODE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("request_code.lua")));
static TAKE_ATTEMPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("take_attempt.lua")));
static USE_CODE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("use_code.lua")));

/// Whether a code is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// It is stored: send it.
    Send,
    /// None is sent for so long.
    Blocked(Duration),
}

/// The codes of all addresses.
#[derive(Clone)]
pub struct Codes {
    redis: Ephemeral,
    limits: Limits,
}

impl Codes {
    /// Codes in this Redis, sent as often as `limits` say.
    #[must_use]
    pub const fn new(redis: Ephemeral, limits: Limits) -> Self {
        Self { redis, limits }
    }

    fn key(&self, address: &AddressHash, part: &str) -> String {
        self.redis.name(&format!("sign-in:{{{address}}}:{part}"))
    }

    /// How often a code is sent.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Stores the only code of an address that will be good, if one may be sent now.
    ///
    /// # Errors
    /// When Redis does not answer: a code may be stored that nobody is sent.
    pub async fn request(
        &self,
        address: &AddressHash,
        code: &CodeHash,
    ) -> Result<Requested, EphemeralError> {
        let member = Uuid::new_v4().simple().to_string();
        let mut call = REQUEST_CODE.key(self.key(address, "sent"));
        call.key(self.key(address, "blocked"))
            .key(self.key(address, "code"))
            .arg(member)
            .arg(code.as_str())
            .arg(millis(CODE_LIFE));
        for level in self.limits.levels() {
            call.arg(level.count)
                .arg(millis(level.window))
                .arg(millis(level.block));
        }
        Ok(match self.redis.script::<u64>(&call).await? {
            0 => Requested::Send,
            blocked_ms => Requested::Blocked(Duration::from_millis(blocked_ms)),
        })
    }

    /// Takes one of the attempts at an address' code, and gives what is stored of it. None: there is
    /// no code, or no attempt is left.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn take_attempt(
        &self,
        address: &AddressHash,
    ) -> Result<Option<CodeHash>, EphemeralError> {
        let mut call = TAKE_ATTEMPT.key(self.key(address, "code"));
        call.arg(ATTEMPTS);
        let stored: Option<String> = self.redis.script(&call).await?;
        Ok(stored.as_deref().map(CodeHash::stored))
    }

    /// Uses a code up that was right. False: somebody else has.
    ///
    /// # Errors
    /// When Redis does not answer; then it may be used up.
    pub async fn use_up(
        &self,
        address: &AddressHash,
        code: &CodeHash,
    ) -> Result<bool, EphemeralError> {
        let mut call = USE_CODE.key(self.key(address, "code"));
        call.arg(code.as_str());
        self.redis.script(&call).await
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codes")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
