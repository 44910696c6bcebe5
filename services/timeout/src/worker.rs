//! The loop that makes the rounds, and the check that the loop is still running.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_service::health::Health;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clocks::Clocks;
use crate::expirer::{Expirer, StepError, StepReport};
use crate::metrics;

/// A loop that has not finished a round for longer than this counts as stalled.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// How often claims are deleted that are no longer needed.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The time at which the loop last finished a round. Clones share it.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    /// The loop starts now.
    #[must_use]
    pub fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    /// The loop has finished a round.
    pub fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Checks that the loop has finished a round shortly before `now`.
    ///
    /// # Errors
    /// A message if it has not for ten seconds.
    pub fn check(&self, now: Instant) -> Result<(), String> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(last);
        if since > STALLED_AFTER {
            return Err(format!("no round for {} s", since.as_secs()));
        }
        Ok(())
    }

    /// Keeps the readiness condition `stalled` up to date until `stop` is cancelled.
    pub async fn watch(self, health: Health, stop: CancellationToken) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            health.check("stalled", &self.check(Instant::now()));
        }
    }
}

/// Makes rounds until `stop` is cancelled, and finishes the current round then. After a full page the next round
/// follows immediately, otherwise after `poll_interval`.
pub async fn run<C: Clocks>(
    expirer: &Expirer<C>,
    health: &Health,
    pulse: &Pulse,
    poll_interval: Duration,
    stop: &CancellationToken,
) {
    let mut conditions = Conditions::new(health);
    let mut forgot_at = Instant::now();
    while !stop.is_cancelled() {
        let outcome = expirer.step().await;
        pulse.beat();
        record(&outcome);
        conditions.update(&outcome);
        if forgot_at.elapsed() > FORGET_EVERY {
            forgot_at = Instant::now();
            if let Err(error) = expirer.forget_claims().await {
                tracing::warn!(%error, "claims of no use are kept for now");
            }
        }
        // If nothing of a page could be published, wait before the next page is claimed.
        let at_once = outcome.is_ok_and(|report| report.full_page && report.published > 0);
        if !at_once {
            stop.run_until_cancelled(tokio::time::sleep(poll_interval))
                .await;
        }
    }
}

fn record(outcome: &Result<StepReport, StepError>) {
    let skew = match outcome {
        Ok(report) => {
            let published = u64::try_from(report.published).unwrap_or(u64::MAX);
            metrics::EXPIRED_PUBLISHED.only().increment(published);
            metrics::EXPIRY_LAG_SECONDS
                .only()
                .set(report.lag.as_secs_f64());
            report.skew
        }
        Err(StepError::Clocks { skew, .. }) => *skew,
        Err(StepError::Database(_) | StepError::Redis(_)) => return,
    };
    metrics::CLOCK_SKEW_SECONDS.only().set(skew.as_seconds());
}

/// The readiness condition that is broken by a page without any acknowledgement.
const KAFKA: &str = "kafka";

/// The readiness conditions that the rounds set. At most one is broken at a time, because a round ends at the first
/// error.
#[derive(Debug)]
struct Conditions<'a> {
    health: &'a Health,
    broken: Option<&'static str>,
}

impl<'a> Conditions<'a> {
    const fn new(health: &'a Health) -> Self {
        Self {
            health,
            broken: None,
        }
    }

    fn update(&mut self, outcome: &Result<StepReport, StepError>) {
        let problem = match outcome {
            // Nothing had to be appended, so it is not known whether the log is available again.
            Ok(report) if report.claimed == 0 && self.broken == Some(KAFKA) => return,
            Ok(report) if report.published < report.claimed => Some((KAFKA, unpublished(report))),
            Ok(_) => None,
            Err(error) => Some((error.condition(), error.to_string())),
        };
        let condition = problem.as_ref().map(|(condition, _)| *condition);
        if let Some(before) = self.broken.filter(|before| condition != Some(*before)) {
            self.health.resolved(before);
        }
        if let Some((condition, why)) = problem {
            // Log it once, not five times a second.
            if self.broken != Some(condition) {
                tracing::error!(condition, why, "orders do not expire");
            }
            self.health.problem(condition, why);
        }
        self.broken = condition;
    }
}

fn unpublished(report: &StepReport) -> String {
    let StepReport {
        claimed, published, ..
    } = report;
    format!("{published} of {claimed} expiries were acknowledged; the rest is tried again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clocks::{Skew, SkewError};

    const SKEW: Skew = Skew {
        ahead_us: 3_000_000,
        uncertainty: Duration::ZERO,
    };

    fn round(claimed: usize, published: usize) -> StepReport {
        StepReport {
            claimed,
            published,
            lag: Duration::ZERO,
            skew: SKEW,
            full_page: false,
        }
    }

    fn skewed() -> StepError {
        StepError::Clocks {
            error: SkewError::Apart {
                ahead_us: SKEW.ahead_us,
            },
            skew: SKEW,
        }
    }

    #[test]
    fn readiness_follows_the_last_round() {
        let health = Health::default();
        let mut conditions = Conditions::new(&health);
        for (outcome, broken) in [
            (Ok(round(0, 0)), vec![]),
            (Err(skewed()), vec!["clock-skew"]),
            (Ok(round(2, 1)), vec!["kafka"]),
            (Ok(round(0, 0)), vec!["kafka"]),
            (Err(skewed()), vec!["clock-skew"]),
            (Ok(round(1, 1)), vec![]),
        ] {
            conditions.update(&outcome);
            let problems: Vec<_> = health.problems().into_keys().collect();
            assert_eq!(problems, broken, "{outcome:?}");
        }
    }

    #[test]
    fn a_loop_that_stopped_shows() {
        let before = Instant::now();
        let pulse = Pulse::start();
        assert_eq!(pulse.check(before + STALLED_AFTER), Ok(()));
        let later = Instant::now() + STALLED_AFTER + Duration::from_millis(1);
        assert!(pulse.check(later).is_err());
    }
}
