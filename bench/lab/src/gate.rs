//! The critical point of a rung, where a scenario makes happen what otherwise happens by luck.

use std::time::Duration;

use tokio::sync::watch;
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
    /// The one who comes when so many have come before waits until it is let go.
    Hold(usize),
}

/// The critical point of one sale, in one process.
#[derive(Debug)]
pub struct Gate {
    trap: Trap,
    arrivals: watch::Sender<usize>,
    open: CancellationToken,
}

impl Gate {
    /// A critical point with this trap in it.
    #[must_use]
    pub fn new(trap: Trap) -> Self {
        Self {
            trap,
            arrivals: watch::Sender::new(0),
            open: CancellationToken::new(),
        }
    }

    /// A buyer comes to the critical point, and goes on when the trap lets it.
    pub async fn pass(&self) {
        let mut before = 0;
        self.arrivals.send_modify(|arrivals| {
            before = *arrivals;
            *arrivals += 1;
        });
        match self.trap {
            Trap::Meeting(buyers) => self.meet(before, buyers).await,
            Trap::Hold(held) if before == held => self.open.cancelled().await,
            Trap::Hold(_) | Trap::None => {}
        }
    }

    /// Waits until so many have come.
    pub async fn arrived(&self, buyers: usize) {
        let mut arrivals = self.arrivals.subscribe();
        // Its sender is this gate's.
        let _ = arrivals.wait_for(|arrived| *arrived >= buyers).await;
    }

    /// Lets everybody go on.
    pub fn let_go(&self) {
        self.open.cancel();
    }

    async fn meet(&self, before: usize, buyers: usize) {
        if before + 1 < buyers {
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
    async fn only_one_is_held_until_it_is_let_go() {
        let gate = Gate::new(Trap::Hold(1));
        gate.pass().await;
        let mut second = Box::pin(gate.pass());
        assert!(futures_util::poll!(&mut second).is_pending());
        gate.arrived(2).await;
        gate.pass().await;
        assert!(futures_util::poll!(&mut second).is_pending());
        gate.let_go();
        second.await;
    }
}
