//! The part of a shared budget that this instance has: permits that it has leased in advance.
//!
//! An order never waits for Redis. It takes a leased permit, or one on credit, which the next call to Redis
//! pays. In any `t` seconds all instances together admit at most `rate * (t + 1)` orders, as a token bucket of
//! one second does, and three blocks for each instance: two that were leased before, and one on credit.

use std::time::{Duration, Instant};

/// The permits of one second are leased in this many blocks.
const BLOCKS: u32 = 20;
/// Unused permits expire after this time, because the bucket is full again then.
const LIFE: Duration = Duration::from_secs(1);
/// If Redis takes longer, it counts as unavailable.
const SLOW: Duration = Duration::from_millis(250);
/// The pause after a call that returned fewer permits than were requested.
const PAUSE: Duration = Duration::from_millis(1_000 / BLOCKS as u64);
/// After a call without an answer.
const REST: Duration = Duration::from_millis(500);

/// The state of a shared bucket, as far as it is known here.
#[derive(Debug)]
pub(super) struct Lease {
    block: i64,
    /// Below zero: used on credit.
    permits: i64,
    expires_at: Instant,
    asking_since: Option<Instant>,
    ask_at: Instant,
    is_away: bool,
    /// How many permits the bucket had left for all instances.
    shared_left: u32,
}

/// Whether an order is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is admitted. So many permits are left, here and in the bucket.
    Taken { left: u32 },
    /// The budget is used up.
    Refused { wait: Duration },
    /// Redis does not answer.
    Unknown,
}

/// A call to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) at: Instant,
    pub(super) owed: i64,
    pub(super) wanted: i64,
}

/// What Redis answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grant {
    pub(super) granted: i64,
    pub(super) left: u32,
    pub(super) wait: Duration,
}

impl Lease {
    /// Of a bucket of `rate` permits a second, about which nothing is known.
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self {
            block: i64::from(rate.div_ceil(BLOCKS)),
            permits: 0,
            expires_at: now,
            asking_since: None,
            ask_at: now,
            is_away: false,
            shared_left: 0,
        }
    }

    /// Takes a permit; the call is to be made by whoever gets it.
    pub(super) fn take(&mut self, now: Instant) -> (Verdict, Option<Ask>) {
        if self.permits > 0 && now >= self.expires_at {
            self.permits = 0;
        }
        let is_slow = self.asking_since.is_some_and(|since| now - since > SLOW);
        let verdict = if self.is_away || is_slow {
            Verdict::Unknown
        } else if self.permits > -self.block {
            self.permits -= 1;
            let here = u32::try_from(self.permits).unwrap_or(0);
            let left = here + self.shared_left;
            Verdict::Taken { left }
        } else {
            let wait = self.ask_at.saturating_duration_since(now);
            Verdict::Refused { wait }
        };
        (verdict, self.ask(now))
    }

    fn ask(&mut self, now: Instant) -> Option<Ask> {
        let is_due = self.permits < self.block && now >= self.ask_at;
        if self.asking_since.is_some() || !is_due {
            return None;
        }
        self.asking_since = Some(now);
        Some(Ask {
            at: now,
            owed: (-self.permits).max(0),
            wanted: 2 * self.block - self.permits.max(0),
        })
    }

    /// The result of a call.
    pub(super) fn answered(&mut self, now: Instant, ask: Ask, answer: Option<Grant>) {
        self.asking_since = None;
        self.is_away = answer.is_none();
        let Some(grant) = answer else {
            self.ask_at = now + REST;
            return;
        };
        self.permits += ask.owed + grant.granted;
        self.shared_left = grant.left;
        self.expires_at = ask.at + LIFE;
        if grant.granted < ask.wanted {
            self.ask_at = now + grant.wait.max(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 100;

    fn grant(granted: i64) -> Grant {
        Grant {
            granted,
            left: 0,
            wait: Duration::ZERO,
        }
    }

    /// A lease that has been told how much it may have.
    fn leased(permits: i64) -> (Lease, Instant) {
        let now = Instant::now();
        let mut lease = Lease::new(RATE, now);
        let (first, ask) = lease.take(now);
        assert_eq!(first, Verdict::Taken { left: 0 }, "on credit");
        let ask = ask.unwrap();
        assert_eq!((ask.owed, ask.wanted), (1, 10));
        lease.answered(now, ask, Some(grant(permits)));
        (lease, now)
    }

    fn taken(lease: &mut Lease, now: Instant) -> usize {
        let is_taken = |verdict| matches!(verdict, Verdict::Taken { .. });
        (0..100).filter(|_| is_taken(lease.take(now).0)).count()
    }

    #[test]
    fn permits_are_used_up_and_then_a_block_on_credit() {
        let (mut lease, now) = leased(10);
        assert_eq!(taken(&mut lease, now), 10 + 5);
        assert!(matches!(lease.take(now).0, Verdict::Refused { .. }));
    }

    #[test]
    fn a_call_is_made_in_advance_and_one_at_a_time_and_pays_what_is_owed() {
        let (mut lease, now) = leased(10);
        let asks: Vec<Ask> = (0..20).filter_map(|_| lease.take(now).1).collect();
        assert_eq!(asks.len(), 1);
        assert_eq!((asks[0].owed, asks[0].wanted), (0, 6), "at four left");
        lease.answered(now, asks[0], Some(grant(6)));
        let (_, ask) = lease.take(now);
        assert_eq!(ask.map(|ask| ask.wanted), Some(10));
    }

    #[test]
    fn an_empty_bucket_is_not_asked_all_the_time() {
        let (mut lease, now) = leased(0);
        assert_eq!(taken(&mut lease, now), 5);
        assert_eq!(lease.take(now).1, None);
        let (verdict, ask) = lease.take(now + PAUSE);
        assert_eq!(
            verdict,
            Verdict::Refused {
                wait: Duration::ZERO
            }
        );
        assert_eq!(ask.map(|ask| ask.owed), Some(5));
    }

    #[test]
    fn permits_that_nobody_used_are_no_good_later() {
        let (mut lease, now) = leased(10);
        assert_eq!(taken(&mut lease, now + LIFE), 5, "on credit");
    }

    #[test]
    fn while_redis_is_away_or_slow_nothing_is_known() {
        let (mut lease, now) = leased(0);
        let later = now + PAUSE;
        let ask = lease.take(later).1.unwrap();
        assert_eq!(lease.take(later + SLOW * 2).0, Verdict::Unknown);
        lease.answered(later, ask, None);
        assert_eq!(lease.take(later).0, Verdict::Unknown);
        assert_eq!(lease.take(later).1, None, "it rests");
        let ask = lease.take(later + REST).1.unwrap();
        lease.answered(later + REST, ask, Some(grant(10)));
        assert!(matches!(lease.take(later + REST).0, Verdict::Taken { .. }));
    }
}
