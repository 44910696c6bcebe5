//! How late the expiry of unpaid orders is. The projector measures it, because a timeout service that does not run,
//! or waits for a store, has to be noticed too.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::context::ProjectorContext;
use crate::metrics;

const PERIOD: Duration = Duration::from_secs(5);

/// Measures until `stop`. While PostgreSQL does not answer, nothing expires, so the lateness grows.
pub(crate) async fn measure(shared: Arc<ProjectorContext>, stop: CancellationToken) {
    let gauge = metrics::EXPIRY_LATE_SECONDS.only();
    let (mut late, mut measured) = (Duration::ZERO, Instant::now());
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match shared.orderbook.expiry_lateness().await {
            Ok(found) => {
                (late, measured) = (found, Instant::now());
                gauge.set(late.as_secs_f64());
            }
            Err(error) => {
                tracing::debug!(%error, "how late orders expire is not known");
                gauge.set((late + measured.elapsed()).as_secs_f64());
            }
        }
    }
}
