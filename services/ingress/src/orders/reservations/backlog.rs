//! How long an order waits in the queue of one voucher, and whether one more order should be queued.
//!
//! Without this, an overloaded queue would always be full: every order would wait for the longest allowed time, and
//! then some would be refused. An order that is refused before it is queued costs very little, and the queued ones
//! are answered soon.

use crate::gate::admission::NoRoom;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The weight of one call in the moving average.
const WEIGHT: u64 = 4;

/// The state of one queue. Times are of a monotonic clock with any origin.
#[derive(Debug)]
pub(super) struct Backlog {
    /// How many orders a round of calls takes from the queue.
    round: usize,
    /// No order in the queue is older than this.
    oldest_us: AtomicU64,
    /// The average time of the last calls; 0 before the first.
    call_us: AtomicU64,
}

impl Backlog {
    /// Of a queue from which calls take `round` orders at a time, all of them together.
    pub(super) const fn new(round: usize) -> Self {
        Self {
            round,
            oldest_us: AtomicU64::new(0),
            call_us: AtomicU64::new(0),
        }
    }

    /// One more comes to the `waiting`. Whoever comes to an empty queue is its oldest, whatever was
    /// noted before: what is noted beside a race never outlives the next empty queue.
    pub(super) fn comes(&self, now: Duration, waiting: usize) {
        if waiting == 0 {
            self.oldest_us.store(micros(now), Ordering::Relaxed);
        }
    }

    /// A call takes orders; the last of them came at `came`, and all who wait now came later.
    pub(super) fn taken(&self, came: Duration) {
        self.oldest_us.store(micros(came), Ordering::Relaxed);
    }

    /// A call has come back, or was given up.
    pub(super) fn called(&self, took: Duration) {
        let took = micros(took);
        let before = self.call_us.load(Ordering::Relaxed);
        let after = match before {
            0 => took,
            // Two calls may end at once, and one of them not count.
            _ => (before * (WEIGHT - 1) + took) / WEIGHT,
        };
        self.call_us.store(after.max(1), Ordering::Relaxed);
    }

    /// How long the oldest of the `waiting` orders has been waiting.
    pub(super) fn age(&self, now: Duration, waiting: usize) -> Duration {
        if waiting == 0 {
            return Duration::ZERO;
        }
        let oldest = Duration::from_micros(self.oldest_us.load(Ordering::Relaxed));
        now.saturating_sub(oldest)
    }

    /// Whether one more behind the `waiting` can expect that its turn comes within `patience`. What
    /// fits into the next round of calls always can: a queue that is kept shorter makes smaller calls.
    pub(super) fn check(
        &self,
        now: Duration,
        waiting: usize,
        patience: Duration,
    ) -> Result<(), NoRoom> {
        let call = Duration::from_micros(self.call_us.load(Ordering::Relaxed));
        let rounds = u32::try_from(waiting / self.round).unwrap_or(u32::MAX);
        if call.saturating_mul(rounds) > patience {
            return Err(NoRoom::Queue);
        }
        // Who was let in waits for the rounds before it, and for the calls under way then.
        if self.age(now, waiting) > patience + call {
            return Err(NoRoom::Stalled);
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const ROUND: usize = 128;
    const PATIENCE: Duration = Duration::from_millis(500);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn as_many_wait_as_the_calls_take_in_time() {
        let backlog = Backlog::new(ROUND);
        let check = |waiting| backlog.check(ms(0), waiting, PATIENCE);
        assert_eq!(check(1_000_000), Ok(()), "nothing is known yet");
        backlog.called(ms(200));
        assert_eq!(check(3 * ROUND - 1), Ok(()));
        assert_eq!(check(3 * ROUND), Err(NoRoom::Queue));
        for _ in 0..40 {
            backlog.called(ms(20));
        }
        assert_eq!(check(25 * ROUND), Ok(()), "Redis is faster again");
        assert_eq!(check(27 * ROUND), Err(NoRoom::Queue));
    }

    #[test]
    fn what_fits_into_the_next_round_may_wait_however_slow_the_calls_are() {
        let backlog = Backlog::new(ROUND);
        backlog.called(ms(60_000));
        assert_eq!(backlog.check(ms(0), ROUND - 1, PATIENCE), Ok(()));
        assert_eq!(backlog.check(ms(0), ROUND, PATIENCE), Err(NoRoom::Queue));
    }

    #[test]
    fn nobody_is_let_in_behind_calls_that_do_not_come_back() {
        let backlog = Backlog::new(ROUND);
        backlog.called(ms(10));
        backlog.comes(ms(1_000), 0);
        backlog.comes(ms(1_400), 1);
        assert_eq!(backlog.check(ms(1_510), 2, PATIENCE), Ok(()));
        assert_eq!(backlog.check(ms(1_511), 2, PATIENCE), Err(NoRoom::Stalled));
        backlog.taken(ms(1_000));
        assert_eq!(backlog.age(ms(1_600), 1), ms(600), "at most");
        backlog.taken(ms(1_400));
        assert_eq!(backlog.check(ms(1_600), 1, PATIENCE), Ok(()));
    }

    #[test]
    fn an_empty_queue_takes_whoever_comes_after_however_long() {
        let backlog = Backlog::new(ROUND);
        backlog.comes(ms(1), 0);
        backlog.taken(ms(1));
        assert_eq!(backlog.age(ms(9_000_000), 0), ms(0));
        assert_eq!(backlog.check(ms(9_000_000), 0, PATIENCE), Ok(()));
        backlog.comes(ms(9_000_000), 0);
        assert_eq!(backlog.age(ms(9_000_001), 1), ms(1));
    }

    /// Four times what the calls can take, for half a minute: every call is full, and nobody waits for
    /// much longer than the patience.
    #[test]
    fn under_four_times_the_peak_calls_stay_full_and_waits_short() {
        for call_ms in [20, 90, 200, 300, 450, 700] {
            let backlog = Backlog::new(ROUND);
            backlog.called(ms(call_ms));
            let per_ms = 4.0 * ROUND as f64 / call_ms as f64;
            let (mut queue, mut came, mut served) = (VecDeque::new(), 0.0, 0);
            let mut longest = ms(0);
            for now in 1..=30_000 {
                came += per_ms;
                while came >= 1.0 {
                    came -= 1.0;
                    if backlog.check(ms(now), queue.len(), PATIENCE).is_ok() {
                        backlog.comes(ms(now), queue.len());
                        queue.push_back(now);
                    }
                }
                if now % call_ms == 0 {
                    let taken: Vec<u64> = queue.drain(..ROUND.min(queue.len())).collect();
                    backlog.taken(ms(*taken.last().unwrap()));
                    backlog.called(ms(call_ms));
                    longest = longest.max(ms(now - taken[0]));
                    served += taken.len();
                }
            }
            let rounds = usize::try_from(30_000 / call_ms).unwrap();
            assert!(served * 100 >= rounds * ROUND * 95, "{call_ms}: {served}");
            assert!(
                longest <= PATIENCE + 2 * ms(call_ms),
                "{call_ms}: {longest:?}"
            );
        }
    }
}
