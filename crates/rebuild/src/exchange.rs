//! Exchanging the two sets of tables.

use std::time::Duration;

use seckill_orderbook::{AuditEntry, Exchange};

use crate::copy::Copy;
use crate::{EventFeed, RebuildError};

/// How long an attempt waits for other transactions to end. All later statements wait behind it.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);
/// The most offsets that may be missing in the copy when the tables are locked. They are in the log already, so they
/// are read while the tables are locked.
const MISSING_MAX: u64 = 3000;
const FEED_PATIENCE: Duration = Duration::from_millis(200);
/// An attempt that has blocked the other clients for this long is given up before the tables are changed.
const PAUSE_BUDGET: Duration = Duration::from_millis(450);
const ATTEMPTS: u32 = 40;
const PAUSE_BETWEEN: Duration = Duration::from_millis(250);

/// An exchange that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchanged {
    /// The time from the first lock on a live table to the end. Nothing was folded or read in this time, but orders
    /// were still accepted into the log.
    pub pause: Duration,
    /// The number of attempts.
    pub attempts: u32,
}

impl<F: EventFeed> Copy<F> {
    /// Replaces the live tables with these, at exactly the same positions and without stopping any service. The caller
    /// should compare the two sets first: [`Self::prove`].
    ///
    /// # Errors
    /// [`RebuildError`]: nothing is changed then.
    pub async fn exchange(
        mut self,
        which: Exchange,
        entry: AuditEntry<'_>,
    ) -> Result<Exchanged, RebuildError> {
        let unlike = self.shadow.structural_differences().await?;
        if !unlike.is_empty() {
            return Err(RebuildError::NotAlike(unlike));
        }
        for attempts in 1..=ATTEMPTS {
            self.follow().await?;
            if let Some(swap) = self.shadow.lock_live(LOCK_PATIENCE).await? {
                let positions = swap.positions().to_vec();
                let there = if self.behind(&positions) > MISSING_MAX {
                    false
                } else {
                    match self.fold_up_to(&positions, FEED_PATIENCE).await {
                        Ok(_) => true,
                        // The reader of the log is late. Do not wait for it while the tables are locked.
                        Err(RebuildError::Stalled { .. }) => false,
                        Err(error) => return Err(error),
                    }
                };
                if there && swap.pause() < PAUSE_BUDGET {
                    let pause = self.shadow.exchange(swap, which, entry).await?;
                    return Ok(Exchanged { pause, attempts });
                }
                swap.give_up().await?;
            }
            tokio::time::sleep(PAUSE_BETWEEN).await;
        }
        Err(RebuildError::Busy(ATTEMPTS))
    }
}
