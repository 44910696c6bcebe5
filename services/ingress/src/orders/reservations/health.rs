//! Whether Kafka acknowledges records, measured only by the records of this process. While it does not,
//! orders are refused before they take stock.

use std::time::Duration;

/// Why no order should be accepted now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KafkaDown {
    /// Records are in flight, and none has been acknowledged for the promise deadline: for how
    /// long.
    #[error("Kafka has acknowledged nothing for {0:?}")]
    Silent(Duration),
    /// A delivery failed, and none has succeeded since.
    #[error("the last delivery to Kafka failed, and none has succeeded since")]
    Failed,
    /// The producer has failed permanently: the process ends.
    #[error("the producer has failed for good")]
    ForGood,
}

/// Counts the records that were sent, and their results. `now` is a time of a monotonic clock with any
/// origin.
#[derive(Debug)]
pub(super) struct KafkaHealth {
    silence_limit: Duration,
    retry_after: Duration,
    in_flight: usize,
    /// The last ack, or when the first of those in flight was sent, whichever is later.
    waiting_since: Duration,
    /// The last failure, unless a delivery has succeeded since.
    failed_at: Option<Duration>,
}

impl KafkaHealth {
    /// Kafka counts as down after `silence_limit` without an ack while records are in flight, and
    /// after a failure until an ack, or until `retry_after` with nothing in flight: somebody has
    /// to try then.
    pub(super) const fn new(silence_limit: Duration, retry_after: Duration) -> Self {
        Self {
            silence_limit,
            retry_after,
            in_flight: 0,
            waiting_since: Duration::ZERO,
            failed_at: None,
        }
    }

    /// A record was passed to the producer.
    pub(super) fn sent(&mut self, now: Duration) {
        if self.in_flight == 0 {
            self.waiting_since = now;
        }
        self.in_flight += 1;
    }

    /// The broker acknowledged a record.
    pub(super) fn acknowledged(&mut self, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.waiting_since = now;
        self.failed_at = None;
    }

    /// The producer gave a record up.
    pub(super) fn failed(&mut self, now: Duration) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.failed_at = Some(now);
    }

    /// Whether orders may be taken.
    pub(super) fn check(&self, now: Duration) -> Result<(), KafkaDown> {
        if let Some(failed_at) = self.failed_at {
            let retry = self.in_flight == 0 && now.saturating_sub(failed_at) >= self.retry_after;
            return if retry {
                Ok(())
            } else {
                Err(KafkaDown::Failed)
            };
        }
        let silence = now.saturating_sub(self.waiting_since);
        if self.in_flight > 0 && silence >= self.silence_limit {
            return Err(KafkaDown::Silent(silence));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn health() -> KafkaHealth {
        KafkaHealth::new(at(3), at(5))
    }

    #[test]
    fn silence_counts_only_while_something_is_in_flight() {
        let mut health = health();
        assert_eq!(health.check(at(100)), Ok(()));
        health.sent(at(100));
        assert_eq!(health.check(at(102)), Ok(()));
        assert_eq!(health.check(at(103)), Err(KafkaDown::Silent(at(3))));
        health.acknowledged(at(104));
        assert_eq!(health.check(at(200)), Ok(()));
    }

    #[test]
    fn silence_begins_anew_with_every_ack_and_not_with_every_record() {
        let mut health = health();
        health.sent(at(0));
        health.sent(at(2));
        assert_eq!(health.check(at(3)), Err(KafkaDown::Silent(at(3))));
        health.acknowledged(at(3));
        assert_eq!(health.check(at(5)), Ok(()));
        assert_eq!(health.check(at(6)), Err(KafkaDown::Silent(at(3))));
    }

    #[test]
    fn after_a_failure_it_is_down_until_an_ack() {
        let mut health = health();
        health.sent(at(0));
        health.sent(at(0));
        health.failed(at(1));
        assert_eq!(health.check(at(1)), Err(KafkaDown::Failed));
        health.acknowledged(at(2));
        assert_eq!(health.check(at(2)), Ok(()));
    }

    #[test]
    fn after_a_failure_with_nothing_in_flight_somebody_may_try_again() {
        let mut health = health();
        health.sent(at(0));
        health.failed(at(1));
        assert_eq!(health.check(at(5)), Err(KafkaDown::Failed));
        assert_eq!(health.check(at(6)), Ok(()));
        // One probe at a time is enough.
        health.sent(at(6));
        assert_eq!(health.check(at(6)), Err(KafkaDown::Failed));
        health.failed(at(7));
        assert_eq!(health.check(at(11)), Err(KafkaDown::Failed));
        assert_eq!(health.check(at(12)), Ok(()));
    }
}
