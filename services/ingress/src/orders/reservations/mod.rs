//! Reservations: from a buyer's request to stock in Redis and an event in the log.
//!
//! [`Reservations::place`] queues a request with its voucher's actor (`batcher`), which sends what
//! is queued to the script in one call (`call`), publishes what was granted (`publisher`) and
//! answers at the broker's ack. What was granted and not acknowledged is published again by
//! [`Reservations::relay`].

mod acks;
mod backlog;
mod batcher;
mod call;
mod health;
mod meters;
mod promise;
mod publisher;
mod queues;
mod relay;
mod request;
mod shrink;
mod sold_out;
mod types;

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{
    Event, EventId, OrderId, OrderIdSource, Reason, Refusal, TraceParent, VoucherId,
};
use seckill_eventlog::{DeliveryError, EventProducer, Redriven, SendError};
use seckill_service::clock::BootInstant;
use seckill_service::traces;
use seckill_stock::{OrderEvent, ReserveRequest, Stock};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::health::KafkaHealth;
use self::meters::{InFlightOrders, Meters};
use self::promise::PromiseDeadline;
use self::publisher::{Publisher, Sent};
use self::queues::Queues;
use self::request::{Request, Waiter};

pub use self::types::{
    PlaceError, PlaceOrder, Placed, PlacedState, PublishError, RelayOptions, ReservationsOptions,
    ShrinkError,
};
use crate::gate::admission::NoRoom;

/// Takes orders. Cheap to clone; clones share everything.
///
/// If a caller disconnects, the work that was begun is continued, on tasks that [`Self::drain`] waits for.
#[derive(Clone)]
pub struct Reservations {
    shared: Arc<ReservationsContext>,
}

struct ReservationsContext {
    stock: Stock,
    /// For reading page by page.
    pages: Stock,
    publisher: Publisher,
    options: ReservationsOptions,
    promise_deadline: PromiseDeadline,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    order_ids: OrderIdSource,
    in_flight: InFlightOrders,
    queues: Queues,
    /// Times in `queues` count from here.
    origin: BootInstant,
    meters: Meters,
}

impl ReservationsContext {
    fn now(&self) -> Duration {
        self.time_of(BootInstant::now())
    }

    /// A moment as a time in `queues`.
    fn time_of(&self, moment: BootInstant) -> Duration {
        moment.since(self.origin)
    }

    /// Starts work that outlives the request it was begun for.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.tasks.spawn_on(work, &self.runtime)
    }
}

impl Reservations {
    /// The connections to Redis must have no other use: `stock` is for calls that an order waits for,
    /// `pages` for reading page by page beside them. The producer has to be connected. Work runs on
    /// `runtime`. The metrics recorder has to be installed before.
    #[must_use]
    pub fn new(
        stock: Stock,
        pages: Stock,
        producer: Arc<EventProducer>,
        options: ReservationsOptions,
        runtime: Handle,
    ) -> Self {
        let health = KafkaHealth::new(options.promise_deadline, options.delivery_timeout);
        // The lower half of a version 4 UUID is random but for its two highest bits.
        let (_, process_tag) = Uuid::new_v4().as_u64_pair();
        Self {
            shared: Arc::new(ReservationsContext {
                stock,
                pages,
                publisher: Publisher::new(producer, health),
                options,
                promise_deadline: PromiseDeadline::new(options.promise_deadline),
                runtime,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                order_ids: OrderIdSource::new(process_tag),
                in_flight: InFlightOrders::default(),
                queues: Queues::default(),
                origin: BootInstant::now(),
                meters: Meters::new(),
            }),
        }
    }

    /// Whether there is room for one more order of `voucher`. It reads a few counters and takes nothing. Call it
    /// before a request costs anything.
    ///
    /// # Errors
    /// Why not.
    pub fn check_room(&self, voucher: VoucherId) -> Result<(), NoRoom> {
        let shared = &self.shared;
        if shared.in_flight.count() >= shared.options.max_in_flight {
            return Err(NoRoom::InFlight);
        }
        let patience = shared.options.queue_patience;
        shared.queues.check(voucher, shared.now(), patience)
    }

    /// How long the oldest order of all has been waiting for its call to Redis.
    #[must_use]
    pub fn queue_age(&self) -> Duration {
        self.shared.queues.age(self.shared.now())
    }

    /// Takes an order of `voucher`, or gives the one that an earlier request with the same key
    /// made. Waits for the broker's ack, at most until the promise deadline.
    ///
    /// # Errors
    /// [`PlaceError`]. After [`PlaceError::Unavailable`], or [`PlaceError::NotServed`] while Redis
    /// comes and goes, the order may exist all the same: asking again with the same key tells.
    pub async fn place(&self, voucher: VoucherId, order: PlaceOrder) -> Result<Placed, PlaceError> {
        let shared = &self.shared;
        self.check_kafka().map_err(|_| PlaceError::Unavailable)?;
        if shared.queues.is_sold_out(voucher, &order, shared.now()) {
            shared.meters.sold_out_remembered.increment(1);
            return Err(Refusal::SoldOut.into());
        }
        let in_flight = shared.in_flight.admit(shared.options.max_in_flight);
        let in_flight = in_flight.ok_or(PlaceError::Overloaded)?;
        let (reply, answer) = oneshot::channel();
        let request = Request {
            ask: ReserveRequest {
                order_id: shared.order_ids.next(voucher),
                event_id: EventId::from_uuid(Uuid::now_v7()),
                user_id: order.user_id,
                quantity: order.quantity,
                key_hash: order.key_hash,
                traceparent: Some(traces::child(order.traceparent)),
                sale_token: order.sale_token,
            },
            waiter: Waiter::new(reply, in_flight, traces::span_id(order.traceparent)),
            queued_at: BootInstant::now(),
        };
        batcher::enqueue(shared, voucher, request)?;
        // A waiter is dropped without an answer if its task panicked.
        answer.await.unwrap_or(Err(PlaceError::Unavailable))
    }

    /// Takes `units` off a sale, first in Redis and then in the log, with the operator's `reason`: once
    /// for an event id, however often it is asked. Waits for the broker's ack, at most until the promise
    /// deadline.
    ///
    /// # Errors
    /// [`ShrinkError`].
    pub async fn shrink(
        &self,
        voucher: VoucherId,
        event_id: EventId,
        units: u32,
        reason: Reason,
        traceparent: TraceParent,
    ) -> Result<(), ShrinkError> {
        self.check_kafka().map_err(|_| ShrinkError::Unavailable)?;
        let request = shrink::Shrink {
            voucher,
            event_id,
            units,
            reason,
            traceparent,
        };
        shrink::run(&self.shared, request).await
    }

    /// Publishes an event and waits for the broker's ack, at most for the promise deadline.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(
        &self,
        event: Event,
        traceparent: TraceParent,
    ) -> Result<(), PublishError> {
        self.send_and_wait(|publisher| publisher.send_for(traceparent, &event))
            .await
    }

    /// Publishes a record again that the fold has passed over, as [`Self::publish`] does.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_again(&self, record: &Redriven) -> Result<(), PublishError> {
        self.send_and_wait(|publisher| publisher.send_again(record))
            .await
    }

    /// Publishes the event of an order that may not be in the log yet, so that what is published next about the order
    /// comes behind it. If it is in the log already, the fold ignores the second one.
    ///
    /// # Errors
    /// [`PublishError`], also while Redis does not serve the sale.
    pub async fn publish_if_pending(&self, order: OrderId) -> Result<(), PublishError> {
        let told = self.shared.pages.order_event(order).await;
        let pending = match told {
            Ok(OrderEvent::Pending(pending)) => pending,
            Ok(OrderEvent::NotPending) => return Ok(()),
            Ok(OrderEvent::NotServed) => {
                return Err(PublishError::NotSent(
                    "Redis does not serve the sale".to_owned(),
                ));
            }
            Err(error) => return Err(PublishError::NotSent(format!("Redis: {error}"))),
        };
        let event = pending.to_event(order.voucher_id());
        self.send_and_wait(|publisher| publisher.send(&event, pending.traceparent(), None))
            .await
    }

    async fn send_and_wait(
        &self,
        send: impl FnOnce(&Publisher) -> Result<Sent, SendError>,
    ) -> Result<(), PublishError> {
        self.check_kafka().map_err(PublishError::NotSent)?;
        let mut sent = send(&self.shared.publisher).map_err(|error| match error {
            SendError::QueueFull => PublishError::NotSent(error.to_string()),
            SendError::Fatal | SendError::Invalid(_) | SendError::Refused(_) => {
                PublishError::Failed
            }
        })?;
        fail::fail_point!("ingress.event.after-produce");
        let shared = Arc::clone(&self.shared);
        let ack = self
            .shared
            .spawn(async move { shared.publisher.acknowledged(&mut sent).await });
        match tokio::time::timeout(self.shared.options.promise_deadline, ack).await {
            Ok(Ok(Ok(()))) => {
                fail::fail_point!("ingress.event.after-ack");
                Ok(())
            }
            Ok(Ok(Err(DeliveryError::Fatal | DeliveryError::Failed(_)))) => {
                Err(PublishError::Failed)
            }
            Ok(Ok(Err(DeliveryError::TimedOut)) | Err(_)) | Err(_) => {
                Err(PublishError::Unacknowledged)
            }
        }
    }

    /// Whether orders are taken, for readiness.
    ///
    /// # Errors
    /// Why not, for people.
    pub fn is_accepting(&self) -> Result<(), String> {
        self.check_kafka()?;
        let max = self.shared.options.max_in_flight;
        if self.shared.in_flight.count() >= max {
            return Err(format!("{max} orders are in flight"));
        }
        Ok(())
    }

    /// Accepts nothing new, and waits for the work that was begun, at most for `deadline`. Events that
    /// are left then are published by the relay of another process.
    pub async fn drain(&self, deadline: Duration) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(deadline, self.shared.tasks.wait())
            .await
            .is_err()
        {
            let tasks = self.shared.tasks.len();
            tracing::warn!(tasks, "not everything was acknowledged before the end");
        }
    }

    fn check_kafka(&self) -> Result<(), String> {
        if self.shared.stop.is_cancelled() {
            return Err("the process is stopping".to_owned());
        }
        self.shared
            .publisher
            .check()
            .map_err(|down| down.to_string())
    }
}
