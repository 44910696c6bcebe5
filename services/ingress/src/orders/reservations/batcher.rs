//! One actor for each voucher. It puts requests that arrive together into one script call.
//!
//! A single request is sent at once. While all calls are busy, or one has just begun, requests are queued, and the
//! next call takes all that are there.

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::VoucherId;
use seckill_stock::MAX_REQUESTS;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::acks::Acks;
use super::queues::{CALLS_IN_FLIGHT, QueueState, Refused};
use super::request::Request;
use super::{PlaceError, ReservationsContext, call};

/// Calls of a voucher begin so far apart, unless the next one would be full. Redis answers within a fraction of this:
/// without it, many requests would be decided by calls of a few each, and a call costs more than a decision.
const CALL_SPACING: Duration = Duration::from_millis(2);
const IDLE: Duration = Duration::from_secs(60);
/// Voucher ids come from the URL, so a queue of an unknown sale must not use memory for long.
const IDLE_UNSERVED: Duration = Duration::from_secs(1);
/// An actor may end between its look-up and the sending of a request. If that happens twice in a row, the
/// process is stopping.
const ENQUEUE_ATTEMPTS: u32 = 3;

/// The state that the calls of one voucher share.
pub(super) struct VoucherLane {
    pub(super) voucher: VoucherId,
    pub(super) shared: Arc<ReservationsContext>,
    pub(super) acks: Acks,
    pub(super) queue: Arc<QueueState>,
}

impl VoucherLane {
    fn idle_limit(&self) -> Duration {
        if self.queue.is_served() {
            IDLE
        } else {
            IDLE_UNSERVED
        }
    }
}

/// Hands a request to its voucher's actor, which is started if there is none.
pub(super) fn enqueue(
    shared: &Arc<ReservationsContext>,
    voucher: VoucherId,
    mut request: Request,
) -> Result<(), PlaceError> {
    for _ in 0..ENQUEUE_ATTEMPTS {
        match shared
            .queues
            .send(voucher, shared.now(), request)
            .map_err(|refused| *refused)
        {
            Ok(()) => return Ok(()),
            Err(Refused::Full) => return Err(PlaceError::Overloaded),
            Err(Refused::NoActor(back)) => request = back,
        }
        if let Some(opened) = shared.queues.open(voucher) {
            let lane = Arc::new(VoucherLane {
                voucher,
                shared: Arc::clone(shared),
                acks: Acks::default(),
                queue: opened.state,
            });
            shared.spawn(run(lane, opened.requests));
        }
    }
    Err(PlaceError::Unavailable)
}

/// When a voucher's last call began.
#[derive(Debug, Default)]
struct Spacing(Option<Instant>);

impl Spacing {
    /// Until when the next call waits, if it does, with so many requests waiting for it.
    fn wait(&self, now: Instant, requests: usize) -> Option<Instant> {
        let next = self.0? + CALL_SPACING;
        (requests < MAX_REQUESTS && now < next).then_some(next)
    }

    const fn call_begins(&mut self, now: Instant) {
        self.0 = Some(now);
    }
}

/// The actor. It ends when it was idle for long or the process stops, after it has served what was
/// queued before it closed its queue.
async fn run(lane: Arc<VoucherLane>, mut queue: mpsc::Receiver<Request>) {
    let slots = Arc::new(Semaphore::new(CALLS_IN_FLIGHT));
    let mut spacing = Spacing::default();
    // `acquire_owned` fails only on a closed semaphore, and this one is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        if let Some(until) = spacing.wait(Instant::now(), queue.len()) {
            tokio::time::sleep_until(until).await;
        }
        let batch = next_batch(&lane, &mut queue).await;
        spacing.call_begins(Instant::now());
        let Some(last) = batch.last() else {
            break;
        };
        lane.queue
            .backlog
            .taken(lane.shared.time_of(last.queued_at));
        lane.shared.spawn(call::run(Arc::clone(&lane), batch, slot));
    }
    lane.shared.queues.forget(lane.voucher);
}

/// What is queued, at least one request; empty at the end.
async fn next_batch(lane: &VoucherLane, queue: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut batch = Vec::with_capacity(MAX_REQUESTS);
    loop {
        let idle_limit = lane.idle_limit();
        tokio::select! {
            biased;
            _ = queue.recv_many(&mut batch, MAX_REQUESTS) => return batch,
            () = lane.shared.stop.cancelled() => queue.close(),
            () = tokio::time::sleep(idle_limit) => {
                // The first call may have been answered meanwhile.
                if lane.idle_limit() == idle_limit {
                    queue.close();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_request_goes_at_once_and_what_follows_closely_goes_together() {
        let (mut spacing, first) = (Spacing::default(), Instant::now());
        assert_eq!(spacing.wait(first, 0), None);
        spacing.call_begins(first);
        let next = first + CALL_SPACING;
        assert_eq!(spacing.wait(first, 0), Some(next));
        assert_eq!(spacing.wait(first, MAX_REQUESTS - 1), Some(next));
        assert_eq!(spacing.wait(first, MAX_REQUESTS), None, "a full call");
        assert_eq!(spacing.wait(next, 0), None);
    }
}
