//! The critical point of a rung, where a scenario makes happen what otherwise happens by luck.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::strategy::Buyer;

/// How long buyers wait for each other: rungs that let in one at a time would wait for ever.
const MEETING_PATIENCE: Duration = Duration::from_millis(200);

/// What waits at the critical point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Nothing.
    None,
    /// Nobody goes on before so many are there; after that, or after a time-out, it is open to all.
    Meeting(usize),
    /// The first one to come is stopped, with its whole process, for so long.
    Pause(Duration),
    /// The first one to come never goes on.
    Death,
}

/// The critical point of one sale.
#[derive(Debug)]
pub struct Gate {
    trap: Trap,
    arrivals: AtomicUsize,
    open: CancellationToken,
    victim: OnceLock<Buyer>,
    /// Whether the victim stands still.
    stopped: watch::Sender<bool>,
}

impl Gate {
    /// A critical point with this trap in it.
    #[must_use]
    pub fn new(trap: Trap) -> Self {
        Self {
            trap,
            arrivals: AtomicUsize::new(0),
            open: CancellationToken::new(),
            victim: OnceLock::new(),
            stopped: watch::Sender::new(false),
        }
    }

    /// A buyer comes to the critical point, and goes on when the trap lets it.
    pub async fn pass(&self, buyer: Buyer) {
        match self.trap {
            Trap::None => {}
            Trap::Meeting(buyers) => self.meet(buyers).await,
            Trap::Pause(duration) => {
                if self.victim.set(buyer).is_ok() {
                    self.stopped.send_replace(true);
                    sleep(duration).await;
                    self.stopped.send_replace(false);
                }
            }
            Trap::Death => {
                if self.victim.set(buyer).is_ok() {
                    self.stopped.send_replace(true);
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// For what runs beside a buyer in the same process: it stands still while the buyer does.
    pub async fn stand_still_with(&self, buyer: Buyer) {
        if self.victim.get() == Some(&buyer) {
            let mut stopped = self.stopped.subscribe();
            // The sender is ours, so this cannot fail.
            let _ = stopped.wait_for(|stopped| !stopped).await;
        }
    }

    /// Waits until somebody was caught.
    pub async fn victim(&self) -> Option<Buyer> {
        let mut stopped = self.stopped.subscribe();
        let _ = stopped.wait_for(|stopped| *stopped).await;
        self.victim.get().copied()
    }

    async fn meet(&self, buyers: usize) {
        let arrived = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        if arrived < buyers {
            let _ = timeout(MEETING_PATIENCE, self.open.cancelled()).await;
        }
        self.open.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buyer(click: usize) -> Buyer {
        Buyer { user_id: 1, click }
    }

    #[tokio::test]
    async fn a_meeting_waits_for_all_and_then_for_nobody() {
        let gate = Gate::new(Trap::Meeting(2));
        let mut first = Box::pin(gate.pass(buyer(0)));
        assert!(futures_util::poll!(&mut first).is_pending());
        gate.pass(buyer(1)).await;
        first.await;
        let third = Box::pin(gate.pass(buyer(2)));
        assert!(futures_util::poll!(third).is_ready());
    }

    #[tokio::test]
    async fn only_the_first_one_is_stopped_and_its_companion_with_it() {
        let gate = Gate::new(Trap::Death);
        let mut first = Box::pin(gate.pass(buyer(0)));
        assert!(futures_util::poll!(&mut first).is_pending());
        gate.pass(buyer(1)).await;
        assert_eq!(gate.victim().await, Some(buyer(0)));
        gate.stand_still_with(buyer(1)).await;
        let companion = Box::pin(gate.stand_still_with(buyer(0)));
        assert!(futures_util::poll!(companion).is_pending());
    }
}
