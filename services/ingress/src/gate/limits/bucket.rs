//! Token buckets by key. Each holds the tokens of one second.
//!
//! A bucket is stored as the moment at which it will be full again (the generic cell rate algorithm). A bucket
//! that was not used for a second is full, like a new one, and is deleted.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use seckill_service::clock::BootInstant;

use crate::http::problem::Problem;
use crate::metrics;

const SECOND_NS: u64 = 1_000_000_000;
/// The number of locks, so that threads rarely wait for the same one.
const SHARDS: usize = 64;

/// The buckets of one kind of key; none where there is no limit.
pub(super) struct Buckets<K> {
    policy: &'static str,
    limit: Option<(NonZeroU32, Meter<K>)>,
    origin: BootInstant,
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

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// `per_second` tokens a second and at most as many at once; 0 is no limit.
    pub(super) fn new(policy: &'static str, per_second: u32) -> Self {
        Self {
            policy,
            limit: NonZeroU32::new(per_second).map(|rate| (rate, Meter::new(rate))),
            origin: BootInstant::now(),
        }
    }

    /// Takes one token, where there is a limit.
    ///
    /// # Errors
    /// `rate-limited`.
    pub(super) fn take(&self, key: &K) -> Result<Option<Taken>, Problem> {
        let Some((rate, meter)) = &self.limit else {
            return Ok(None);
        };
        let now_ns = u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX / 2);
        match meter.take(key, now_ns) {
            Ok(left) => Ok(Some(self.taken(*rate, left))),
            Err(wait) => Err(self.refused(*rate, wait)),
        }
    }

    /// Tokens a second; none where there is no limit.
    pub(super) fn rate(&self) -> Option<NonZeroU32> {
        self.limit.as_ref().map(|(rate, _)| *rate)
    }

    pub(super) const fn policy(&self) -> &'static str {
        self.policy
    }

    /// The result of taking a token.
    pub(super) const fn taken(&self, rate: NonZeroU32, left: u32) -> Taken {
        Taken {
            policy: self.policy,
            rate,
            left,
        }
    }

    /// Counts a refusal.
    pub(super) fn refused(&self, rate: NonZeroU32, wait: Duration) -> Problem {
        metrics::RATE_LIMITED.with([self.policy]).increment(1);
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

/// Times are nanoseconds since one origin.
struct Meter<K> {
    /// The time after which a token is added.
    interval_ns: u64,
    /// The time after which an empty bucket is full: a second, or a little less if the rate does not divide it.
    worth_ns: u64,
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K>>>,
}

/// When buckets will be full again: of those used in this second, and of those used in the last.
struct Shard<K> {
    second: u64,
    this: HashMap<K, u64>,
    last: HashMap<K, u64>,
}

impl<K: Hash + Eq + Clone> Meter<K> {
    fn new(rate: NonZeroU32) -> Self {
        let rate = u64::from(rate.get());
        let interval_ns = (SECOND_NS / rate).max(1);
        let shard = || {
            Mutex::new(Shard {
                second: 0,
                this: HashMap::new(),
                last: HashMap::new(),
            })
        };
        Self {
            interval_ns,
            worth_ns: (interval_ns * rate).min(SECOND_NS),
            hasher: RandomState::new(),
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
        }
    }

    /// Takes a token, and says how many are left; or how long the next one takes.
    fn take(&self, key: &K, now_ns: u64) -> Result<u32, Duration> {
        let hash = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[hash]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        shard.turn(now_ns / SECOND_NS);
        let full_at = shard.full_at(key).unwrap_or(0).max(now_ns) + self.interval_ns;
        let Some(left_ns) = (now_ns + self.worth_ns).checked_sub(full_at) else {
            return Err(Duration::from_nanos(full_at - self.worth_ns - now_ns));
        };
        shard.this.insert(key.clone(), full_at);
        Ok(u32::try_from(left_ns / self.interval_ns).unwrap_or(u32::MAX))
    }
}

impl<K: Hash + Eq> Shard<K> {
    /// Deletes the buckets that were last used before the second before `second`.
    fn turn(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second);
        if passed == 0 {
            return;
        }
        std::mem::swap(&mut self.this, &mut self.last);
        self.this.clear();
        if passed > 1 {
            self.last.clear();
        }
        self.second = second;
    }

    fn full_at(&self, key: &K) -> Option<u64> {
        self.this.get(key).or_else(|| self.last.get(key)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn meter(rate: u32) -> Meter<u8> {
        Meter::new(NonZeroU32::new(rate).unwrap())
    }

    fn remembered(meter: &Meter<u8>) -> usize {
        let count = |shard: &Mutex<Shard<u8>>| {
            let shard = shard.lock().unwrap();
            shard.this.len() + shard.last.len()
        };
        meter.shards.iter().map(count).sum()
    }

    #[test]
    fn a_full_bucket_has_a_seconds_worth_and_then_a_token_at_a_time() {
        for rate in [1, 3, 5, 7, 70_000] {
            let meter = meter(rate);
            for left in (0..rate).rev() {
                assert_eq!(meter.take(&1, 5 * MS), Ok(left), "{rate}");
            }
            let wait = meter.take(&1, 5 * MS).unwrap_err();
            let token = 5 * MS + u64::try_from(wait.as_nanos()).unwrap();
            assert!(meter.take(&1, token - 1).is_err());
            assert_eq!(meter.take(&1, token), Ok(0));
        }
    }

    #[test]
    fn who_was_refused_waits_no_longer_for_having_asked() {
        let meter = meter(1);
        meter.take(&1, 0).unwrap();
        for ms in 1..1_000 {
            assert!(meter.take(&1, ms * MS).is_err());
        }
        assert_eq!(meter.take(&1, 1_000 * MS), Ok(0));
    }

    #[test]
    fn what_is_full_again_is_forgotten_and_nothing_else() {
        let meter = meter(1);
        for key in 0..=u8::MAX {
            meter.take(&key, 999 * MS).unwrap();
        }
        for key in 0..=u8::MAX {
            let asks = [1_000, 1_998, 1_999].map(|ms| meter.take(&key, ms * MS).is_ok());
            assert_eq!(asks, [false, false, true]);
        }
        for shard in 0..=u8::MAX {
            let _turned = meter.take(&shard, 60_000 * MS);
        }
        assert!(remembered(&meter) <= 256, "{}", remembered(&meter));
        assert_eq!(meter.take(&7, 120_000 * MS), Ok(0));
    }

    proptest! {
        /// Compared with a simple bucket that deletes nothing and counts tokens.
        #[test]
        fn every_answer_is_that_of_a_bucket_that_drips(
            rate in prop::sample::select(vec![1_u32, 2, 4, 5, 8, 10, 1_000]),
            steps_ms in prop::collection::vec(0_u64..1_500, 1..200),
        ) {
            let (meter, interval) = (meter(rate), SECOND_NS / u64::from(rate));
            let (mut now, mut filled, mut drops) = (0, 0, SECOND_NS);
            for step in steps_ms {
                now += step * MS / 4;
                drops = (drops + (now - filled)).min(SECOND_NS);
                filled = now;
                let expected = drops.checked_sub(interval);
                drops = expected.unwrap_or(drops);
                let left = expected.map(|left| u32::try_from(left / interval).unwrap());
                prop_assert_eq!(meter.take(&1, now).ok(), left);
            }
        }
    }
}
