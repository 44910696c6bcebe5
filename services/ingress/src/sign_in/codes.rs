//! Codes and their limits in Redis. All keys of one mailbox share a slot; its address itself is in none
//! of them.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_identity::{AddressHash, CodeHash, Limits};
use uuid::Uuid;

/// How long a code is good.
pub const CODE_LIFE: Duration = Duration::from_secs(5 * 60);
/// How often a code may be tried by who asked for it, and as often by all others.
pub const ATTEMPTS: u32 = 5;
/// From so many wrong attempts a day on, an address' codes are long.
const FAILURES_A_DAY: u32 = 20;

static REQUEST_CODE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("request_code.lua")));
static TAKE_ATTEMPT: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("take_attempt.lua")));
static USE_CODE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("use_code.lua")));

/// The mailbox of a code, and the client that asks for it or tries it.
#[derive(Debug, Clone)]
pub struct Who {
    /// The mailbox, which limits count, however the address is spelled.
    pub mailbox: AddressHash,
    /// The address itself.
    pub address: AddressHash,
    /// The client's address.
    pub client: AddressHash,
}

/// A code in its two lengths, of which one is sent.
#[derive(Debug)]
pub struct NewCode {
    /// What is sent usually.
    pub usual: CodeHash,
    /// What is sent while somebody guesses.
    pub long: CodeHash,
}

/// Whether a code is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requested {
    /// It is stored: send it.
    Send {
        /// The long one.
        is_long: bool,
    },
    /// None is sent for so long.
    Blocked(Duration),
}

/// What is stored of a code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCode {
    pub hash: CodeHash,
    /// The challenge that was returned with it.
    pub challenge: Uuid,
}

/// The codes of all addresses.
#[derive(Clone)]
pub struct Codes {
    redis: Ephemeral,
    limits: Limits,
}

impl Codes {
    /// Codes in this Redis, sent to one mailbox as often as `limits` say.
    #[must_use]
    pub const fn new(redis: Ephemeral, limits: Limits) -> Self {
        Self { redis, limits }
    }

    fn key(&self, who: &Who, part: &str) -> String {
        self.redis
            .name(&format!("sign-in:{{{}}}:{part}", who.mailbox))
    }

    /// The newest code, or the one that was given out with a challenge.
    fn code_key(&self, who: &Who, challenge: Option<Uuid>) -> String {
        let address = &who.address;
        match challenge {
            None => self.key(who, &format!("{address}:code")),
            Some(challenge) => self.key(who, &format!("{address}:code:{}", challenge.simple())),
        }
    }

    /// How often a code is sent.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Stores a code, if one may be sent now: under its challenge, and as the newest one of its address.
    /// `long`: it is the long one in any case.
    ///
    /// # Errors
    /// When Redis does not answer: a code may be stored that nobody is sent.
    pub async fn request(
        &self,
        who: &Who,
        challenge: Uuid,
        code: &NewCode,
        long: bool,
    ) -> Result<Requested, EphemeralError> {
        let own = format!("{}:sent", who.client);
        let own_block = format!("{}:blocked", who.client);
        let mut call = REQUEST_CODE.key(self.key(who, &own));
        call.key(self.key(who, &own_block))
            .key(self.key(who, "sent"))
            .key(self.key(who, "blocked"))
            .key(self.code_key(who, None))
            .key(self.code_key(who, Some(challenge)))
            .key(self.key(who, "failed"))
            .arg(challenge.simple().to_string())
            .arg(code.usual.as_str())
            .arg(code.long.as_str())
            .arg(millis(CODE_LIFE))
            .arg(if long { 0 } else { FAILURES_A_DAY });
        let of_all = self.limits.of_all_clients();
        for (own, all) in self.limits.levels().iter().zip(of_all.levels()) {
            call.arg(own.count)
                .arg(all.count)
                .arg(millis(own.window))
                .arg(millis(own.block));
        }
        Ok(match self.redis.script::<(u64, bool)>(&call).await? {
            (0, is_long) => Requested::Send { is_long },
            (blocked_ms, _) => Requested::Blocked(Duration::from_millis(blocked_ms)),
        })
    }

    /// Takes one of the attempts at the code of a challenge, or without one at the address' newest, and
    /// gives what is stored of it. None: there is no such code, or no attempt is left.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn take_attempt(
        &self,
        who: &Who,
        challenge: Option<Uuid>,
    ) -> Result<Option<StoredCode>, EphemeralError> {
        let mut call = TAKE_ATTEMPT.key(self.code_key(who, challenge));
        call.key(self.key(who, "failed")).arg(ATTEMPTS);
        let stored: Option<(String, String)> = self.redis.script(&call).await?;
        Ok(stored.and_then(|(hash, challenge)| {
            Some(StoredCode {
                hash: CodeHash::stored(&hash),
                challenge: challenge.parse().ok()?,
            })
        }))
    }

    /// Deletes a code that was right, so that it is used once. False: another request has used it.
    ///
    /// # Errors
    /// When Redis does not answer; then it may be used up.
    pub async fn use_up(&self, who: &Who, code: &StoredCode) -> Result<bool, EphemeralError> {
        let mut call = USE_CODE.key(self.code_key(who, None));
        call.key(self.code_key(who, Some(code.challenge)))
            .key(self.key(who, "failed"))
            .arg(code.hash.as_str());
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
