//! The two clocks that the time to pay depends on: Redis' wrote the deadline, the database's
//! decides that it has passed. Where they disagree, buyers would lose time that they were
//! promised, so then nothing is expired.

use std::time::Duration;

use seckill_domain::Timestamp;
use seckill_orderbook::{Orderbook, OrderbookError};
use seckill_stock::{Stock, StockError};
use tokio::time::Instant;

/// A measurement with a larger error is not used.
const MAX_UNCERTAINTY: Duration = Duration::from_millis(500);

/// Reads the two clocks.
pub trait Clocks: Send + Sync {
    /// The database's clock.
    fn database(&self) -> impl Future<Output = Result<Timestamp, OrderbookError>> + Send;

    /// Redis' clock, every master's.
    fn redis(&self) -> impl Future<Output = Result<Vec<Timestamp>, StockError>> + Send;
}

/// The clocks of the real stores.
#[derive(Debug, Clone)]
pub struct StoreClocks {
    pub orderbook: Orderbook,
    /// Redis.
    pub stock: Stock,
}

impl Clocks for StoreClocks {
    async fn database(&self) -> Result<Timestamp, OrderbookError> {
        self.orderbook.now().await
    }

    async fn redis(&self) -> Result<Vec<Timestamp>, StockError> {
        self.stock.clocks().await
    }
}

/// What a clock showed, and when it was asked and answered, counted from one moment on this
/// process' own clock.
#[derive(Debug, Clone, Copy)]
pub struct Reading<C = Timestamp> {
    /// The time that it showed.
    pub clock: C,
    /// When the request was sent.
    pub asked: Duration,
    /// When the answer came.
    pub answered: Duration,
}

impl<C> Reading<C> {
    /// Asks a clock, or several at once; times are counted from `origin`.
    ///
    /// # Errors
    /// When the clock cannot be read.
    pub async fn take<E>(
        origin: Instant,
        clock: impl Future<Output = Result<C, E>>,
    ) -> Result<Self, E> {
        let asked = origin.elapsed();
        let clock = clock.await?;
        Ok(Self {
            clock,
            asked,
            answered: origin.elapsed(),
        })
    }
}

impl Reading<Vec<Timestamp>> {
    /// Each clock, as if it alone had been asked.
    fn each(&self) -> impl Iterator<Item = Reading> {
        self.clock.iter().map(|clock| Reading {
            clock: *clock,
            asked: self.asked,
            answered: self.answered,
        })
    }
}

impl Reading {
    /// The clock was read at some time between request and answer, so the error is half the round trip.
    fn uncertainty(&self) -> Duration {
        self.answered.saturating_sub(self.asked) / 2
    }

    /// What the clock would have shown at the origin, had it read in the middle of the round trip.
    fn at_origin_us(&self) -> i128 {
        let middle = self.asked + self.uncertainty();
        i128::from(self.clock.as_micros()) - micros(middle)
    }
}

/// How far the database's clock is ahead of Redis'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Microseconds; negative when it is behind.
    pub ahead_us: i128,
    /// How far the measurement may be off, either way.
    pub uncertainty: Duration,
}

/// Why nothing can be expired by the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkewError {
    /// They are further apart than the grace.
    #[error(
        "the database's clock is {ahead_us} µs ahead of Redis', more than EXPIRY_GRACE_SECONDS \
         either way: synchronise the clocks of the two machines"
    )]
    Apart {
        /// Microseconds; negative when it is behind.
        ahead_us: i128,
    },
    /// The stores answer too slowly to tell.
    #[error(
        "the database and Redis take too long to tell the time: their clocks are known to \
         ±{} ms only", uncertainty.as_millis()
    )]
    Unknown {
        /// How far the measurement may be off, either way.
        uncertainty: Duration,
    },
}

impl Skew {
    /// Compares two readings that were counted from one moment.
    #[must_use]
    pub fn between(database: &Reading, redis: &Reading) -> Self {
        Self {
            ahead_us: database.at_origin_us() - redis.at_origin_us(),
            uncertainty: database.uncertainty() + redis.uncertainty(),
        }
    }

    /// Compares a clock with several, and gives the one that it is furthest from; none for none.
    #[must_use]
    pub fn worst(database: &Reading, redis: &Reading<Vec<Timestamp>>) -> Option<Self> {
        let skews = redis.each().map(|redis| Self::between(database, &redis));
        skews.max_by_key(|skew| skew.ahead_us.abs())
    }

    /// In seconds, for the gauge.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub fn as_seconds(&self) -> f64 {
        self.ahead_us as f64 / 1e6
    }

    /// Whether deadlines may be judged: the clocks are no further apart than `grace`, as far as
    /// the measurement can tell.
    ///
    /// # Errors
    /// [`SkewError::Apart`] when they are; [`SkewError::Unknown`] when it cannot tell.
    pub fn check(&self, grace: Duration) -> Result<(), SkewError> {
        if self.uncertainty > MAX_UNCERTAINTY {
            return Err(SkewError::Unknown {
                uncertainty: self.uncertainty,
            });
        }
        if self.ahead_us.abs() > micros(grace + self.uncertainty) {
            return Err(SkewError::Apart {
                ahead_us: self.ahead_us,
            });
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> i128 {
    i128::try_from(duration.as_micros()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    fn reading(clock_ms: i64, asked_ms: u64, answered_ms: u64) -> Reading {
        Reading {
            clock: Timestamp::from_micros(clock_ms * 1000),
            asked: Duration::from_millis(asked_ms),
            answered: Duration::from_millis(answered_ms),
        }
    }

    #[test]
    fn equal_clocks_have_no_skew_however_late_the_second_was_asked() {
        let database = reading(1_000_010, 0, 20);
        let redis = reading(1_000_150, 100, 200);
        let skew = Skew::between(&database, &redis);
        assert_eq!(skew.ahead_us, 0);
        assert_eq!(skew.uncertainty, Duration::from_millis(60));
        assert_eq!(skew.check(GRACE), Ok(()));
    }

    #[test]
    fn clocks_further_apart_than_the_grace_stop_expiry_either_way() {
        for (database_ms, ahead_us, allowed) in [
            (12_000, 2_000_000, true),
            (8_000, -2_000_000, true),
            (12_001, 2_001_000, false),
            (7_999, -2_001_000, false),
        ] {
            let skew = Skew::between(&reading(database_ms, 0, 0), &reading(10_000, 0, 0));
            assert_eq!(skew.ahead_us, ahead_us);
            let expected = if allowed {
                Ok(())
            } else {
                Err(SkewError::Apart { ahead_us })
            };
            assert_eq!(skew.check(GRACE), expected, "{database_ms}");
        }
    }

    #[test]
    fn of_several_clocks_the_furthest_counts() {
        let database = reading(10_000, 0, 0);
        let redis = |clocks_ms: &[i64]| Reading {
            clock: clocks_ms
                .iter()
                .map(|ms| Timestamp::from_micros(ms * 1000))
                .collect(),
            asked: Duration::ZERO,
            answered: Duration::ZERO,
        };
        let worst =
            |clocks_ms: &[i64]| Skew::worst(&database, &redis(clocks_ms)).map(|skew| skew.ahead_us);
        assert_eq!(worst(&[10_001, 13_000, 9_000]), Some(-3_000_000));
        assert_eq!(worst(&[10_001, 11_000, 7_000]), Some(3_000_000));
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn a_slow_answer_widens_the_tolerance_and_a_very_slow_one_says_nothing() {
        let redis = reading(10_000, 0, 0);
        let slow = Skew::between(&reading(12_500, 0, 400), &redis);
        assert_eq!(slow.ahead_us, 2_300_000);
        assert!(slow.check(GRACE).is_err());
        let slow = Skew::between(&reading(12_400, 0, 400), &redis);
        assert_eq!(slow.check(GRACE), Ok(()));
        let very_slow = Skew::between(&reading(10_000, 0, 1_002), &redis);
        let uncertainty = Duration::from_millis(501);
        assert_eq!(
            very_slow.check(GRACE),
            Err(SkewError::Unknown { uncertainty })
        );
    }
}
