//! Limits whose budget all instances share, through Redis.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use redis::Script;
use seckill_ephemeral::{Ephemeral, EphemeralError};
use tokio::runtime::Handle;

use super::bucket::{Buckets, Taken};
use super::lease::{Ask, Grant, Lease, Verdict};
use crate::http::problem::Problem;
use crate::metrics;

static LEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lease.lua")));

/// The most leases of one kind of key at a time. Beyond that, the least recently used ones are dropped.
const LEASES_MAX: u64 = 10_000;
/// A lease that was not used for this long is dropped.
const IDLE_MAX: Duration = Duration::from_secs(3_600);

/// Where the shared budgets are, and the runtime of the calls to them.
#[derive(Debug, Clone)]
pub struct Budgets {
    /// Redis.
    pub redis: Ephemeral,
    /// Calls to Redis run here, so that no order waits for them.
    pub runtime: Handle,
}

/// The buckets of one kind of key, shared where there are [`Budgets`] and Redis answers; otherwise those of
/// this instance.
pub(super) struct SharedBuckets<K> {
    own: Buckets<K>,
    shared: Option<SharedCounts<K>>,
}

struct SharedCounts<K> {
    budgets: Budgets,
    leases: Cache<K, Arc<Mutex<Lease>>>,
    /// The part of the Redis key in braces.
    name: fn(&K) -> String,
}

impl<K: Hash + Eq + Send + Sync + Clone + 'static> SharedBuckets<K> {
    /// `name` tells keys apart in Redis.
    pub(super) fn new(own: Buckets<K>, budgets: Option<Budgets>, name: fn(&K) -> String) -> Self {
        // Alerts need its rate from the first increment on, so it begins at 0.
        metrics::RATE_LIMIT_FALLBACKS
            .with([own.policy()])
            .increment(0);
        let budgets = budgets.filter(|_| own.rate().is_some());
        let shared = budgets.map(|budgets| SharedCounts {
            budgets,
            leases: Cache::builder()
                .max_capacity(LEASES_MAX)
                .time_to_idle(IDLE_MAX)
                // The default policy keeps frequently used keys, and might not accept a new one at all.
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            name,
        });
        Self { own, shared }
    }

    /// Takes one permit, where there is a limit.
    ///
    /// # Errors
    /// `rate-limited`.
    pub(super) fn take(&self, key: &K) -> Result<Option<Taken>, Problem> {
        let (Some(shared), Some(rate)) = (&self.shared, self.own.rate()) else {
            return self.own.take(key);
        };
        let new = || Arc::new(Mutex::new(Lease::new(rate.get(), Instant::now())));
        let lease = shared.leases.get_with_by_ref(key, new);
        let (verdict, ask) = lock(&lease).take(Instant::now());
        if let Some(ask) = ask {
            let redis = shared.budgets.redis.clone();
            let name = redis.name(&format!("limit:{{{}}}", (shared.name)(key)));
            let asking = async move {
                let answer = call(&redis, &name, rate.get(), ask).await;
                if let Err(error) = &answer {
                    tracing::debug!(%error, "limits are this instance's own for now");
                }
                lock(&lease).answered(Instant::now(), ask, answer.ok());
            };
            shared.budgets.runtime.spawn(asking);
        }
        match verdict {
            Verdict::Taken { left } => Ok(Some(self.own.taken(rate, left.min(rate.get())))),
            Verdict::Refused { wait } => Err(self.own.refused(rate, wait)),
            Verdict::Unknown => {
                let policy = self.own.policy();
                metrics::RATE_LIMIT_FALLBACKS.with([policy]).increment(1);
                self.own.take(key)
            }
        }
    }
}

fn lock(lease: &Mutex<Lease>) -> MutexGuard<'_, Lease> {
    lease.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn call(redis: &Ephemeral, name: &str, rate: u32, ask: Ask) -> Result<Grant, EphemeralError> {
    let mut call = LEASE.key(name);
    call.arg(rate).arg(ask.owed).arg(ask.wanted);
    let (granted, left, wait_ms): (i64, u32, u64) = redis.script(&call).await?;
    Ok(Grant {
        granted,
        left,
        wait: Duration::from_millis(wait_ms),
    })
}

impl<K> fmt::Debug for SharedBuckets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBuckets")
            .field("own", &self.own)
            .field("is_shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}
