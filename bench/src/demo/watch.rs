//! Looks at both stocks all the time while the sale runs.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::evidence::Watched;
use super::stores::Stores;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// A running watch.
#[derive(Debug)]
pub(super) struct Watch {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Watched>,
}

impl Watch {
    /// Begins to look.
    #[must_use]
    pub(super) fn start(stores: Stores) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self {
            stop,
            task: tokio::spawn(sample(stores, stopped)),
        }
    }

    /// Ends it; what was seen.
    ///
    /// # Errors
    /// When its task failed.
    pub(super) async fn finish(self) -> anyhow::Result<Watched> {
        drop(self.stop);
        Ok(self.task.await?)
    }
}

async fn sample(stores: Stores, mut stopped: oneshot::Receiver<()>) -> Watched {
    let mut watched = Watched {
        samples: 0,
        least_redis: i64::MAX,
        least_stock_left: i64::MAX,
    };
    loop {
        // A store that does not answer under load was not seen below zero, nor above.
        if let (Ok(redis), Ok(sale)) = (stores.redis_stock().await, stores.sale().await) {
            watched.samples += 1;
            watched.least_redis = watched.least_redis.min(redis);
            watched.least_stock_left = watched.least_stock_left.min(sale.stock_left);
        }
        tokio::select! {
            _ = &mut stopped => return watched,
            () = tokio::time::sleep(SAMPLE_INTERVAL) => {}
        }
    }
}
