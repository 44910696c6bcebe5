//! Calls that begin evenly, as orders do below the peak.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use crate::throughput::measured::Rate;

/// Begins `per_second` calls for `time`, whether or not those before are answered. Latency counts from the moment at
/// which a call was to begin.
pub(super) async fn evenly<F>(
    per_second: f64,
    time: Duration,
    call: impl Fn(u64) -> F,
) -> Result<Rate>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut calls = JoinSet::new();
    let started = Instant::now();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / per_second);
        if due >= time {
            break;
        }
        let due = started + due;
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let call = call(number);
        calls.spawn(async move {
            call.await?;
            Ok::<_, anyhow::Error>(due.elapsed())
        });
    }
    let mut latencies = Vec::new();
    while let Some(answered) = calls.join_next().await {
        latencies.push(answered??);
    }
    Rate::new(latencies.len(), started.elapsed(), latencies)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn no_more_begin_than_are_due_and_a_slow_one_holds_no_other_up() {
        let tenth_begins = Arc::new(Notify::new());
        let call = |number| {
            let tenth_begins = Arc::clone(&tenth_begins);
            async move {
                match number {
                    0 => tenth_begins.notified().await,
                    9 => tenth_begins.notify_one(),
                    _ => {}
                }
                Ok(())
            }
        };
        let rate = evenly(1_000.0, Duration::from_millis(20), call).await;
        let rate = rate.unwrap();
        // The last of twenty is due after 19 ms.
        assert!(rate.per_second <= 20.0 / 0.019, "{rate:?}");
        assert!(
            rate.p99_ms >= 9.0,
            "the first waited for the tenth: {rate:?}"
        );
    }

    #[tokio::test]
    async fn a_call_that_fails_fails_the_measurement() {
        let fails = |_| async { anyhow::bail!("refused") };
        let failed = evenly(1_000.0, Duration::from_millis(5), fails).await;
        assert_eq!(failed.unwrap_err().to_string(), "refused");
    }
}
