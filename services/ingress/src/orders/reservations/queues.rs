//! The queues of the vouchers that are asked for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_domain::VoucherId;
use seckill_stock::MAX_REQUESTS;
use tokio::sync::mpsc;

use super::PlaceOrder;
use super::backlog::Backlog;
use super::request::Request;
use super::sold_out::SoldOut;
use crate::gate::admission::NoRoom;

/// The most requests that may wait for a call. More are refused.
const QUEUE_REQUESTS: usize = 4096;
/// Redis runs one script at a time. One call that runs and one that is sent keep it busy. More
/// calls would only make the batches smaller.
pub(super) const CALLS_IN_FLIGHT: usize = 2;

/// The queue of every voucher that has been asked for lately.
#[derive(Default)]
pub(super) struct Queues(RwLock<HashMap<VoucherId, Queue>>);

struct Queue {
    requests: mpsc::Sender<Request>,
    state: Arc<QueueState>,
}

/// What both ends of a queue know.
pub(super) struct QueueState {
    /// Whether Redis has decided anything for this voucher.
    served: AtomicBool,
    pub(super) backlog: Backlog,
    pub(super) sold_out: SoldOut,
}

impl QueueState {
    fn new() -> Self {
        Self {
            served: AtomicBool::new(false),
            backlog: Backlog::new(CALLS_IN_FLIGHT * MAX_REQUESTS),
            sold_out: SoldOut::default(),
        }
    }

    pub(super) fn is_served(&self) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    pub(super) fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }
}

impl Queue {
    fn waiting(&self) -> usize {
        self.requests.max_capacity() - self.requests.capacity()
    }
}

/// The other end of a queue.
pub(super) struct Opened {
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) state: Arc<QueueState>,
}

impl Queues {
    /// The vouchers that Redis has decided something for lately.
    pub(super) fn served_vouchers(&self) -> Vec<VoucherId> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let served = queues.iter().filter(|(_, queue)| queue.state.is_served());
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
            Some(queue) => queue.state.backlog.check(now, queue.waiting(), patience),
            None => Ok(()),
        }
    }

    /// Whether `order` of `voucher` is known to be refused because the sale is sold out.
    pub(super) fn is_sold_out(
        &self,
        voucher: VoucherId,
        order: &PlaceOrder,
        now: Duration,
    ) -> bool {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&voucher);
        queue.is_some_and(|queue| queue.state.sold_out.refuses(order, now))
    }

    /// How long the oldest request of all has been waiting.
    pub(super) fn age(&self, now: Duration) -> Duration {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let ages = queues
            .values()
            .map(|queue| queue.state.backlog.age(now, queue.waiting()));
        ages.max().unwrap_or_default()
    }

    /// Queues a request of `voucher` at `now`. The request comes back if the queue is full, or if it does
    /// not exist (any more).
    pub(super) fn send(
        &self,
        voucher: VoucherId,
        now: Duration,
        request: Request,
    ) -> Result<(), Box<Refused>> {
        let queues = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = queues.get(&voucher) else {
            return Err(Box::new(Refused::NoActor(request)));
        };
        queue.state.backlog.comes(now, queue.waiting());
        queue.requests.try_send(request).map_err(|error| {
            Box::new(match error {
                mpsc::error::TrySendError::Full(_) => Refused::Full,
                mpsc::error::TrySendError::Closed(request) => Refused::NoActor(request),
            })
        })
    }

    /// Makes a queue for `voucher` unless somebody else just did.
    pub(super) fn open(&self, voucher: VoucherId) -> Option<Opened> {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&voucher);
        if queue.is_some_and(|queue| !queue.requests.is_closed()) {
            return None;
        }
        let (requests, receiver) = mpsc::channel(QUEUE_REQUESTS);
        let state = Arc::new(QueueState::new());
        let queue = Queue {
            requests,
            state: Arc::clone(&state),
        };
        queues.insert(voucher, queue);
        Some(Opened {
            requests: receiver,
            state,
        })
    }

    /// Removes a closed queue. A new queue of the same voucher stays.
    pub(super) fn forget(&self, voucher: VoucherId) {
        let mut queues = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get(&voucher);
        if queue.is_some_and(|queue| queue.requests.is_closed()) {
            queues.remove(&voucher);
        }
    }
}

pub(super) enum Refused {
    Full,
    NoActor(Request),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::reservations::meters::InFlightOrders;
    use crate::orders::reservations::request::Waiter;
    use seckill_domain::{EventId, OrderId, UserId};
    use seckill_service::clock::BootInstant;
    use seckill_stock::ReserveRequest;
    use tokio::sync::oneshot;
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
        opened.state.set_served();
        assert_eq!(queues.served_vouchers(), [voucher]);
        drop(opened);
        queues.forget(voucher);
        assert_eq!(queues.served_vouchers(), []);
    }
}
