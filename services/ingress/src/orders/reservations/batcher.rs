//! One actor for each voucher. It puts requests that arrive together into one script call.
//!
//! A single request is sent at once. While all calls are busy, or one has just begun, requests are queued, and the
//! next call takes all that are there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_domain::{TraceParent, VoucherId};
use seckill_service::clock::BootInstant;
use seckill_stock::{MAX_REQUESTS, ReserveRequest};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::acks::Acks;
use super::backlog::Backlog;
use super::meters::InFlight;
use super::{PlaceError, Placed, ReservationsContext, call};
use crate::gate::admission::NoRoom;

/// The most requests that may wait for a call. More are refused.
const QUEUE_REQUESTS: usize = 4096;
/// Redis runs one script at a time. One call that runs and one that is sent keep it busy. More
/// calls would only make the batches smaller.
const CALLS_IN_FLIGHT: usize = 2;
/// Calls of a voucher begin so far apart, unless the next one would be full. Redis answers within a fraction of this:
/// without it, many requests would be decided by calls of a few each, and a call costs more than a decision.
const CALL_SPACING: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_secs(60);
/// Voucher ids come from the URL, so a queue of an unknown sale must not use memory for long.
const IDLE_UNSERVED: Duration = Duration::from_secs(1);
/// An actor may end between its look-up and the sending of a request. If that happens twice in a row, the
/// process is stopping.
const ENQUEUE_ATTEMPTS: u32 = 3;

/// An order on its way to the script.
pub(super) struct Request {
    pub(super) ask: ReserveRequest,
    pub(super) waiter: Waiter,
    pub(super) queued_at: BootInstant,
}

/// The side of the buyer of a request. The order counts as in flight until this is dropped, also after
/// the buyer was answered.
pub(super) struct Waiter {
    reply: Option<oneshot::Sender<Result<Placed, PlaceError>>>,
    /// The id of the request's span, if somebody records its trace.
    span: u64,
    _in_flight: InFlight,
}

impl Waiter {
    pub(super) const fn new(
        reply: oneshot::Sender<Result<Placed, PlaceError>>,
        in_flight: InFlight,
        span: u64,
    ) -> Self {
        Self {
            reply: Some(reply),
            span,
            _in_flight: in_flight,
        }
    }

    /// The request's span, of the same trace as `context`.
    pub(super) fn span(&self, context: TraceParent) -> TraceParent {
        context.child(self.span)
    }

    /// Sends the answer, the first time it is called. The caller may be gone, which changes nothing.
    pub(super) fn answer(&mut self, answer: Result<Placed, PlaceError>) {
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(answer);
        }
    }
}

/// The state that the calls of one voucher share.
pub(super) struct VoucherLane {
    pub(super) voucher: VoucherId,
    pub(super) shared: Arc<ReservationsContext>,
    pub(super) acks: Acks,
    /// Whether Redis has decided anything for this voucher.
    pub(super) served: Arc<AtomicBool>,
    pub(super) backlog: Arc<Backlog>,
}

impl VoucherLane {
    fn idle_limit(&self) -> Duration {
        if self.served.load(Ordering::Relaxed) {
            IDLE
        } else {
            IDLE_UNSERVED
        }
    }
}

/// The queue of every voucher that has been asked for lately.
#[derive(Default)]
pub(super) struct Queues(RwLock<HashMap<VoucherId, Queue>>);

struct Queue {
    requests: mpsc::Sender<Request>,
    served: Arc<AtomicBool>,
    backlog: Arc<Backlog>,
}

impl Queue {
    fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }
}

/// The other end of a queue.
struct Opened {
    requests: mpsc::Receiver<Request>,
    served: Arc<AtomicBool>,
    backlog: Arc<Backlog>,
}

impl Queues {
    /// The vouchers that Redis has decided something for lately.
    pub(super) fn served_vouchers(&self) -> Vec<VoucherId> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let served = queues
            .iter()
            .filter(|(_, queue)| queue.served.load(Ordering::Relaxed));
        served.map(|(voucher, _)| *voucher).collect()
    }

    /// Whether one more order of `voucher` can expect its turn within `patience`.
    pub(super) fn check(
        &self,
        voucher: VoucherId,
        now: Duration,
        patience: Duration,
    ) -> Result<(), NoRoom> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        match queues.get(&voucher) {
            Some(queue) => queue.backlog.check(now, queue.waiting(), patience),
            None => Ok(()),
        }
    }

    /// How long the oldest request of all has been waiting.
    pub(super) fn age(&self, now: Duration) -> Duration {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ages = queues
            .values()
            .map(|queue| queue.backlog.age(now, queue.waiting()));
        ages.max().unwrap_or_default()
    }

    /// Queues a request of `voucher` at `now`. The request comes back if the queue is full, or if it does
    /// not exist (any more).
    fn send(
        &self,
        voucher: VoucherId,
        now: Duration,
        request: Request,
    ) -> Result<(), Box<Refused>> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queues.get(&voucher) else {
            return Err(Box::new(Refused::NoActor(request)));
        };
        queue.backlog.comes(now, queue.waiting());
        queue.requests.try_send(request).map_err(|error| {
            Box::new(match error {
                mpsc::error::TrySendError::Full(_) => Refused::Full,
                mpsc::error::TrySendError::Closed(request) => Refused::NoActor(request),
            })
        })
    }

    /// Makes a queue for `voucher` unless somebody else just did. Its reader sets the flag once
    /// Redis has decided something.
    fn open(&self, voucher: VoucherId) -> Option<Opened> {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&voucher);
        if queue.is_some_and(|queue| !queue.requests.is_closed()) {
            return None;
        }
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let served = Arc::new(AtomicBool::new(false));
        let backlog = Arc::new(Backlog::new(CALLS_IN_FLIGHT * MAX_REQUESTS));
        let queue = Queue {
            requests,
            served: Arc::clone(&served),
            backlog: Arc::clone(&backlog),
        };
        queues.insert(voucher, queue);
        Some(Opened {
            requests: receiver,
            served,
            backlog,
        })
    }

    /// Removes a closed queue. A new queue of the same voucher stays.
    fn forget(&self, voucher: VoucherId) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&voucher);
        if queue.is_some_and(|queue| queue.requests.is_closed()) {
            queues.remove(&voucher);
        }
    }
}

enum Refused {
    Full,
    NoActor(Request),
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
                served: opened.served,
                backlog: opened.backlog,
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
        let came = lane.shared.now().saturating_sub(last.queued_at.elapsed());
        lane.backlog.taken(came);
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
    use crate::orders::reservations::meters::InFlightOrders;
    use seckill_domain::{EventId, OrderId, UserId};
    use uuid::Uuid;

    fn request(voucher: VoucherId, counter: u64) -> Request {
        let in_flight = InFlightOrders::default().admit(1).unwrap();
        Request {
            ask: ReserveRequest {
                order_id: OrderId::from_parts(voucher, 1, counter),
                event_id: EventId::from_uuid(Uuid::nil()),
                user_id: UserId::new(1).unwrap(),
                quantity: 1,
                key_hash: None,
                traceparent: None,
                sale_token: None,
            },
            waiter: Waiter::new(oneshot::channel().0, in_flight, 0),
            queued_at: BootInstant::now(),
        }
    }

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

    #[test]
    fn an_actor_that_ends_serves_what_it_has_and_its_successor_gets_the_rest() {
        let queues = Queues::default();
        let voucher = VoucherId::new(7).unwrap();
        let mut old = queues.open(voucher).unwrap().requests;
        assert!(queues.open(voucher).is_none(), "there is one already");
        assert!(
            queues
                .send(voucher, Duration::ZERO, request(voucher, 1))
                .is_ok()
        );

        old.close();
        let refused = queues
            .send(voucher, Duration::ZERO, request(voucher, 2))
            .map_err(|r| *r);
        let Err(Refused::NoActor(back)) = refused else {
            panic!("taken by an actor that ends");
        };
        let mut new = queues.open(voucher).unwrap().requests;
        assert!(queues.send(voucher, Duration::ZERO, back).is_ok());
        queues.forget(voucher);

        let order_id = |request: Request| request.ask.order_id;
        assert_eq!(
            old.try_recv().map(order_id),
            Ok(OrderId::from_parts(voucher, 1, 1))
        );
        assert_eq!(
            new.try_recv().map(order_id),
            Ok(OrderId::from_parts(voucher, 1, 2))
        );
        assert!(
            queues
                .send(voucher, Duration::ZERO, request(voucher, 3))
                .is_ok(),
            "forgotten"
        );
    }

    #[test]
    fn a_full_queue_refuses_and_an_ended_one_is_forgotten() {
        let queues = Queues::default();
        let voucher = VoucherId::new(7).unwrap();
        let opened = queues.open(voucher).unwrap();
        for counter in 0..QUEUE_REQUESTS {
            let sent = queues.send(voucher, Duration::ZERO, request(voucher, counter as u64));
            assert!(sent.is_ok());
        }
        let refused = queues
            .send(voucher, Duration::ZERO, request(voucher, 0))
            .map_err(|r| *r);
        assert!(matches!(refused, Err(Refused::Full)));

        assert_eq!(queues.served_vouchers(), []);
        opened.served.store(true, Ordering::Relaxed);
        assert_eq!(queues.served_vouchers(), [voucher]);
        drop(opened);
        queues.forget(voucher);
        assert_eq!(queues.served_vouchers(), []);
    }
}
