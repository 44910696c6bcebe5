//! Retries: work that needs a store waits and is repeated until the store answers.

use std::fmt::Display;
use std::time::Duration;

use seckill_service::health::Health;
use tokio_util::sync::CancellationToken;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Waits before the next of so many attempts that have failed.
pub(crate) async fn backed_off(attempts: u32) {
    let pause = FIRST_PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1)).min(1_000);
    tokio::time::sleep(pause.min(LONGEST_PAUSE)).await;
}

/// Runs `operation` until it succeeds, naming `what` in `/readyz` while it does not; `None` when
/// `stop` was cancelled first.
pub(crate) async fn until_done<T, E, F>(
    stop: &CancellationToken,
    health: &Health,
    what: &'static str,
    mut operation: impl FnMut() -> F,
) -> Option<T>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let result = tokio::select! {
            result = operation() => result,
            () = stop.cancelled() => return None,
        };
        match result {
            Ok(value) => {
                health.resolved(what);
                return Some(value);
            }
            Err(error) => {
                tracing::warn!(what, %error, "failed, trying again");
                health.problem(what, error.to_string());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = stop.cancelled() => return None,
        }
    }
}
