//! The cache in Redis, which all instances share.

use std::fmt::Display;
use std::sync::LazyLock;
use std::time::Duration;

use redis::Script;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use uuid::Uuid;

use crate::kind::{Key, Kind};
use crate::metrics;
use crate::{Ephemeral, EphemeralError};

/// A rebuilder that died holds the others up for so long.
const LEASE: Duration = Duration::from_secs(1);
const RENEW_EVERY: Duration = Duration::from_millis(300);
/// How long somebody waits for another's rebuild before building for themselves.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How often a rebuild begins again because the entry was invalidated meanwhile.
const REBUILDS_MAX: u32 = 3;

static FILL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("../scripts/fill.lua")));
static RENEW: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../scripts/renew.lua")));
static RELEASE: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("../scripts/release.lua")));

/// The cache in Redis. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SharedCache(Ephemeral);

/// What Redis has under a key.
#[derive(Debug)]
enum Entry<T> {
    Fresh(Option<T>),
    Old(Option<T>),
    Missing,
}

/// An answer, and whether a newer one is being made.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    pub(crate) value: Option<T>,
    pub(crate) is_old: bool,
}

impl<T> Answer<T> {
    const fn new(value: Option<T>) -> Self {
        Self {
            value,
            is_old: false,
        }
    }
}

impl SharedCache {
    /// In this Redis.
    #[must_use]
    pub const fn new(redis: Ephemeral) -> Self {
        Self(redis)
    }

    /// Takes an entry out, and the right to fill it from whoever is rebuilding it. To be called
    /// after the commit of what changed it: cache-aside, the database first.
    ///
    /// # Errors
    /// When Redis does not answer: the entry may be there still.
    pub async fn invalidate(&self, key: &Key) -> Result<(), EphemeralError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.entry(key)).arg(self.lock_of(key));
        self.0.command(&unlink).await
    }

    fn entry(&self, key: &Key) -> String {
        self.0.name(key.entry())
    }

    fn lock_of(&self, key: &Key) -> String {
        self.0.name(&key.lock())
    }

    /// What is cached, or else what `build` makes of the source; `build` alone while Redis is away.
    /// The lock never fails anybody: who has waited long enough builds for themselves.
    pub(crate) async fn get<T, E, F, B>(
        &self,
        kind: &'static Kind,
        key: &Key,
        build: &F,
    ) -> Result<Answer<T>, E>
    where
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
        E: Display + Send + 'static,
        F: Fn() -> B + Clone + Send + Sync + 'static,
        B: Future<Output = Result<Option<T>, E>> + Send + 'static,
    {
        let (waits_until, mut pause) = (Instant::now() + PATIENCE, PAUSE_MIN);
        let mut rebuilds = 0;
        loop {
            match self.look(kind, key).await {
                Err(_) => return alone(kind, build).await,
                Ok(Entry::Fresh(value)) => return Ok(Answer::new(value)),
                Ok(Entry::Old(value)) => {
                    let (cache, key, build) = (self.clone(), key.clone(), build.clone());
                    tokio::spawn(async move { cache.rebuild_behind(kind, &key, &build).await });
                    return Ok(Answer {
                        value,
                        is_old: true,
                    });
                }
                Ok(Entry::Missing) => {}
            }
            match self.lock(key).await {
                Err(_) => return alone(kind, build).await,
                Ok(Some(token)) => {
                    rebuilds += 1;
                    let (value, is_stored) = self.rebuild(kind, key, &token, build).await?;
                    // Not stored: it was invalidated meanwhile, and what was read may be too old.
                    if is_stored || rebuilds >= REBUILDS_MAX {
                        return Ok(Answer::new(value));
                    }
                    continue;
                }
                Ok(None) if Instant::now() >= waits_until => return alone(kind, build).await,
                Ok(None) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn rebuild_behind<T, E, F, B>(&self, kind: &'static Kind, key: &Key, build: &F)
    where
        T: Serialize + DeserializeOwned,
        E: Display,
        F: Fn() -> B,
        B: Future<Output = Result<Option<T>, E>>,
    {
        let Ok(Some(token)) = self.lock(key).await else {
            return;
        };
        if let Err(error) = self.rebuild(kind, key, &token, build).await {
            tracing::warn!(kind = kind.name, %error, "an old answer could not be rebuilt");
        }
    }

    /// As the owner of the lock. Gives the value, and whether it is stored, by us or by whoever had
    /// the lock before.
    async fn rebuild<T, E, F, B>(
        &self,
        kind: &'static Kind,
        key: &Key,
        token: &str,
        build: &F,
    ) -> Result<(Option<T>, bool), E>
    where
        T: Serialize + DeserializeOwned,
        F: Fn() -> B,
        B: Future<Output = Result<Option<T>, E>>,
    {
        // The last owner may have filled it between our look and our lock.
        if let Ok(Entry::Fresh(value)) = self.look(kind, key).await {
            self.release(key, token).await;
            return Ok((value, true));
        }
        metrics::CACHE_REBUILDS.with([kind.name]).increment(1);
        match self.while_renewing(key, token, build()).await {
            Ok(value) => {
                let is_stored = self.fill(kind, key, token, value.as_ref()).await;
                Ok((value, is_stored))
            }
            Err(error) => {
                self.release(key, token).await;
                Err(error)
            }
        }
    }

    async fn look<T: DeserializeOwned>(
        &self,
        kind: &'static Kind,
        key: &Key,
    ) -> Result<Entry<T>, EphemeralError> {
        let mut both = redis::pipe();
        both.get(self.entry(key)).pttl(self.entry(key));
        let (text, left_ms): (Option<String>, i64) = self.0.pipeline(&both).await?;
        let entry = parse(kind, text.as_deref(), left_ms);
        let result = match &entry {
            Entry::Fresh(_) => "fresh",
            Entry::Old(_) => "old",
            Entry::Missing => "missing",
        };
        metrics::CACHE_READS.with([kind.name, result]).increment(1);
        Ok(entry)
    }

    async fn lock(&self, key: &Key) -> Result<Option<String>, EphemeralError> {
        let token = Uuid::new_v4().simple().to_string();
        let mut set = redis::cmd("SET");
        set.arg(self.lock_of(key)).arg(&token).arg("NX").arg("PX");
        set.arg(millis(LEASE));
        let is_ours: Option<String> = self.0.command(&set).await?;
        Ok(is_ours.map(|_| token))
    }

    async fn while_renewing<R>(&self, key: &Key, token: &str, work: impl Future<Output = R>) -> R {
        let mut ticks = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                _ = ticks.tick() => {
                    let mut call = RENEW.key(self.lock_of(key));
                    call.arg(token).arg(millis(LEASE));
                    // Whether the lock is still ours, the fill finds out.
                    let _: Result<i64, _> = self.0.script(&call).await;
                }
            }
        }
    }

    async fn fill<T: Serialize>(
        &self,
        kind: &'static Kind,
        key: &Key,
        token: &str,
        value: Option<&T>,
    ) -> bool {
        let Ok(text) = serde_json::to_string(&value) else {
            return false;
        };
        let mut call = FILL.key(self.entry(key));
        call.key(self.lock_of(key))
            .arg(token)
            .arg(text)
            .arg(millis(kind.kept(value.is_none())));
        // Without an answer the value is as good as stored: asking the source again helps nobody.
        self.0.script(&call).await.unwrap_or(true)
    }

    async fn release(&self, key: &Key, token: &str) {
        let mut call = RELEASE.key(self.lock_of(key));
        call.arg(token);
        // Otherwise the lease ends by itself.
        let _: Result<i64, _> = self.0.script(&call).await;
    }
}

/// Past the cache.
async fn alone<T, E, F, B>(kind: &'static Kind, build: &F) -> Result<Answer<T>, E>
where
    F: Fn() -> B,
    B: Future<Output = Result<Option<T>, E>>,
{
    metrics::CACHE_READS.with([kind.name, "past"]).increment(1);
    build().await.map(Answer::new)
}

/// An entry of another version of this program is none.
fn parse<T: DeserializeOwned>(kind: &Kind, text: Option<&str>, left_ms: i64) -> Entry<T> {
    let value = text.and_then(|text| serde_json::from_str::<Option<T>>(text).ok());
    let left = Duration::from_millis(u64::try_from(left_ms).unwrap_or(0));
    match value {
        Some(value) if kind.is_fresh(left, value.is_none()) => Entry::Fresh(value),
        Some(value) => Entry::Old(value),
        None => Entry::Missing,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
