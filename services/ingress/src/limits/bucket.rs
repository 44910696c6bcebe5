//! Token buckets by key: so many keys, and no longer than they are used.

use std::fmt;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::problem::Problem;

/// Keys of one kind that are remembered at a time; beyond that, those used longest ago are forgotten,
/// and start afresh.
pub(super) const REMEMBERED_MAX: u64 = 10_000;
/// A key that was not used for so long is forgotten.
const IDLE_MAX: Duration = Duration::from_secs(3_600);

type Bucket = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A cache of what is known of each key.
pub(super) fn remembered<K, V>() -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(REMEMBERED_MAX)
        .time_to_idle(IDLE_MAX)
        // The default policy keeps what is used often, and would not remember a new key at all.
        .eviction_policy(EvictionPolicy::lru())
        .build()
}

/// The buckets of one kind of key; none where there is no limit.
pub(super) struct Buckets<K> {
    policy: &'static str,
    limit: Option<(NonZeroU32, Cache<K, Arc<Bucket>>)>,
    clock: DefaultClock,
}

/// One token, taken out of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    policy: &'static str,
    rate: NonZeroU32,
    left: u32,
}

impl Taken {
    /// As an item of `RateLimit`: what is left of the second's worth. A bucket is full again within a second.
    pub(super) fn state(&self) -> String {
        format!("\"{}\";r={};t=1", self.policy, self.left)
    }

    /// As an item of `RateLimit-Policy`.
    pub(super) fn policy(&self) -> String {
        format!("\"{}\";q={};w=1", self.policy, self.rate)
    }
}

impl<K: Hash + Eq + Send + Sync + Clone + 'static> Buckets<K> {
    /// `per_second` tokens a second and at most as many at once; 0 is no limit.
    pub(super) fn new(policy: &'static str, per_second: u32) -> Self {
        Self {
            policy,
            limit: NonZeroU32::new(per_second).map(|rate| (rate, remembered())),
            clock: DefaultClock::default(),
        }
    }

    /// Takes one token, where there is a limit.
    ///
    /// # Errors
    /// `rate-limited`.
    pub(super) fn take(&self, key: &K) -> Result<Option<Taken>, Problem> {
        let Some((rate, buckets)) = &self.limit else {
            return Ok(None);
        };
        let bucket = buckets.get_with_by_ref(key, || {
            // A clock of its own asks the processor what it is, which takes a virtual one longer than an
            // order's whole request.
            let quota = Quota::per_second(*rate);
            let bucket = RateLimiter::direct_with_clock(quota, self.clock.clone());
            Arc::new(bucket.with_middleware())
        });
        match bucket.check() {
            Ok(state) => Ok(Some(self.taken(*rate, state.remaining_burst_capacity()))),
            Err(not_until) => {
                let wait = not_until.wait_time_from(self.clock.now());
                Err(self.refused(*rate, wait))
            }
        }
    }

    /// Tokens a second; none where there is no limit.
    pub(super) fn rate(&self) -> Option<NonZeroU32> {
        self.limit.as_ref().map(|(rate, _)| *rate)
    }

    pub(super) const fn policy(&self) -> &'static str {
        self.policy
    }

    /// What is told to who took a token.
    pub(super) const fn taken(&self, rate: NonZeroU32, left: u32) -> Taken {
        Taken {
            policy: self.policy,
            rate,
            left,
        }
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, rate: NonZeroU32, wait: Duration) -> Problem {
        metrics::counter!("seckill_rate_limited_total", "policy" => self.policy).increment(1);
        Problem::rate_limited(self.policy, rate.get(), wait)
    }
}

impl<K> fmt::Debug for Buckets<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_second = self.limit.as_ref().map(|(rate, _)| rate.get());
        f.debug_struct("Buckets")
            .field("policy", &self.policy)
            .field("per_second", &per_second)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_remembered_and_the_newest_is_among_them() {
        let buckets = Buckets::new("user", 1);
        for key in 0..REMEMBERED_MAX + 500 {
            buckets.take(&key).unwrap();
        }
        let (_, cache) = buckets.limit.as_ref().unwrap();
        cache.run_pending_tasks();
        assert!(cache.entry_count() <= REMEMBERED_MAX);
        assert!(cache.contains_key(&(REMEMBERED_MAX + 499)));
        assert!(!cache.contains_key(&0));
    }
}
