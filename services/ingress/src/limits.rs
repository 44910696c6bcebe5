//! How often one buyer, and all buyers of this process together, may try to order.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use seckill_domain::UserId;

use crate::problem::Problem;

/// The limits of this process. A burst of one second's worth is allowed.
pub struct Limits {
    user: Option<(NonZeroU32, DefaultKeyedRateLimiter<UserId>)>,
    global: Option<(NonZeroU32, DefaultDirectRateLimiter)>,
    clock: DefaultClock,
}

impl Limits {
    /// Orders a second; 0 is no limit.
    #[must_use]
    pub fn new(user_per_second: u32, global_per_second: u32) -> Self {
        let user = NonZeroU32::new(user_per_second)
            .map(|rate| (rate, RateLimiter::keyed(Quota::per_second(rate))));
        let global = NonZeroU32::new(global_per_second)
            .map(|rate| (rate, RateLimiter::direct(Quota::per_second(rate))));
        Self {
            user,
            global,
            clock: DefaultClock::default(),
        }
    }

    /// Counts one attempt of `user`. The buyer's own limit comes first: who is over it takes
    /// nothing from the others' share.
    ///
    /// # Errors
    /// `rate-limited`.
    pub fn admit(&self, user: UserId) -> Result<(), Problem> {
        if let Some((rate, limiter)) = &self.user {
            limiter
                .check_key(&user)
                .map_err(|not| self.refusal("user", *rate, &not))?;
        }
        if let Some((rate, limiter)) = &self.global {
            limiter
                .check()
                .map_err(|not| self.refusal("global", *rate, &not))?;
        }
        Ok(())
    }

    /// Forgets buyers who have been quiet for long enough to start afresh anyway.
    pub fn prune(&self) {
        if let Some((_, limiter)) = &self.user {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    fn refusal(
        &self,
        policy: &str,
        rate: NonZeroU32,
        not_until: &NotUntil<<DefaultClock as Clock>::Instant>,
    ) -> Problem {
        let wait: Duration = not_until.wait_time_from(self.clock.now());
        Problem::rate_limited(policy, rate.get(), wait)
    }
}

impl std::fmt::Debug for Limits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limits")
            .field("user_per_second", &self.user.as_ref().map(|(rate, _)| rate))
            .field(
                "global_per_second",
                &self.global.as_ref().map(|(rate, _)| rate),
            )
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: i64) -> UserId {
        UserId::new(number).unwrap()
    }

    #[test]
    fn a_buyer_over_the_limit_is_refused_and_others_are_not() {
        // A slow machine may let a token drip in between; 40 attempts take far less than 35 s.
        let limits = Limits::new(5, 0);
        let admitted = (0..40).filter(|_| limits.admit(user(1)).is_ok()).count();
        assert!((5..40).contains(&admitted), "{admitted}");
        assert!(limits.admit(user(2)).is_ok());
    }

    #[test]
    fn the_global_limit_is_shared_and_zero_is_none() {
        let limits = Limits::new(0, 10);
        let admitted = (1..=100).filter(|n| limits.admit(user(*n)).is_ok()).count();
        assert!((10..100).contains(&admitted), "{admitted}");
        let unlimited = Limits::new(0, 0);
        assert!((0..1_000).all(|_| unlimited.admit(user(1)).is_ok()));
    }
}
