//! The critical point of a rung, where a scenario makes happen what otherwise happens by luck.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long buyers wait for each other: rungs that let in one at a time would wait for ever.
const MEETING_PATIENCE: Duration = Duration::from_millis(200);

/// What waits at the critical point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trap {
    /// Nothing.
    None,
    /// Nobody goes on before so many are there; after that, or after a time-out, it is open to all.
    Meeting(usize),
    /// The first one to come waits until it is let go.
    Hold,
}

/// The critical point of one sale, in one process.
#[derive(Debug)]
pub struct Gate {
    trap: Trap,
    arrivals: AtomicUsize,
    open: CancellationToken,
    is_first: AtomicBool,
    caught: CancellationToken,
}

impl Gate {
    /// A critical point with this trap in it.
    #[must_use]
    pub fn new(trap: Trap) -> Self {
        Self {
            trap,
            arrivals: AtomicUsize::new(0),
            open: CancellationToken::new(),
            is_first: AtomicBool::new(true),
            caught: CancellationToken::new(),
        }
    }

    /// A buyer comes to the critical point, and goes on when the trap lets it.
    pub async fn pass(&self) {
        let is_first = self.is_first.swap(false, Ordering::Relaxed);
        self.caught.cancel();
        match self.trap {
            Trap::Meeting(buyers) => self.meet(buyers).await,
            Trap::Hold if is_first => self.open.cancelled().await,
            Trap::Hold | Trap::None => {}
        }
    }

    /// Waits until somebody has come.
    pub async fn caught(&self) {
        self.caught.cancelled().await;
    }

    /// Lets everybody go on.
    pub fn let_go(&self) {
        self.open.cancel();
    }

    async fn meet(&self, buyers: usize) {
        let arrived = self.arrivals.fetch_add(1, Ordering::Relaxed) + 1;
        if arrived < buyers {
            let _ = timeout(MEETING_PATIENCE, self.open.cancelled()).await;
        }
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_meeting_waits_for_all_and_then_for_nobody() {
        let gate = Gate::new(Trap::Meeting(2));
        let mut first = Box::pin(gate.pass());
        assert!(futures_util::poll!(&mut first).is_pending());
        gate.pass().await;
        first.await;
        let third = Box::pin(gate.pass());
        assert!(futures_util::poll!(third).is_ready());
    }

    #[tokio::test]
    async fn only_the_first_one_is_held_until_it_is_let_go() {
        let gate = Gate::new(Trap::Hold);
        let mut first = Box::pin(gate.pass());
        assert!(futures_util::poll!(&mut first).is_pending());
        gate.caught().await;
        gate.pass().await;
        assert!(futures_util::poll!(&mut first).is_pending());
        gate.let_go();
        first.await;
    }
}
