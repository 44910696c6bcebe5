//! The metrics of the hot path; handles are looked up once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seckill_metrics::{Counter, Gauge, Histogram};

use crate::metrics;

pub(super) struct Meters {
    /// From the first sending of the script to its answer, with repetitions.
    pub(super) script_seconds: Histogram,
    /// Events of the outbox that were published again.
    pub(super) relay_published: Counter,
    /// The age of the oldest of them that Kafka does not accept.
    pub(super) relay_age_seconds: Gauge,
    /// Orders that were refused without asking Redis.
    pub(super) sold_out_remembered: Counter,
    batch_size: Histogram,
    /// How long the first request of a batch has waited for its call.
    queue_seconds: Histogram,
    in_flight_orders: Gauge,
}

impl Meters {
    /// The process' recorder has to be installed before.
    pub(super) fn new() -> Self {
        Self {
            script_seconds: metrics::RESERVE_SCRIPT_SECONDS.only(),
            relay_published: metrics::RELAY_PUBLISHED.only(),
            relay_age_seconds: metrics::RELAY_AGE_SECONDS.only(),
            sold_out_remembered: metrics::SOLD_OUT_REMEMBERED.only(),
            batch_size: metrics::RESERVE_BATCH_SIZE.only(),
            queue_seconds: metrics::ORDER_QUEUE_SECONDS.only(),
            in_flight_orders: metrics::IN_FLIGHT_ORDERS.only(),
        }
    }

    /// A batch of `orders` goes to the script, the first of which has `waited`.
    pub(super) fn batch_sent(&self, orders: usize, waited: Duration, in_flight: &InFlightOrders) {
        self.batch_size.record(orders as f64);
        self.queue_seconds.record(waited);
        self.batch_done(in_flight);
    }

    /// The results of all orders of a batch are known.
    pub(super) fn batch_done(&self, in_flight: &InFlightOrders) {
        self.in_flight_orders.set(in_flight.count() as f64);
    }
}

/// How many orders wait for Redis or Kafka.
#[derive(Clone, Default)]
pub(super) struct InFlightOrders(Arc<AtomicUsize>);

impl InFlightOrders {
    /// One more, unless there are `max` already.
    pub(super) fn admit(&self, max: usize) -> Option<InFlight> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let order = InFlight(self.clone());
        (before < max).then_some(order)
    }

    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One order in flight, until this is dropped.
pub(super) struct InFlight(InFlightOrders);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_are_admitted_and_a_place_is_free_again_when_one_ends() {
        let orders = InFlightOrders::default();
        let first = orders.admit(2).unwrap();
        let second = orders.admit(2).unwrap();
        assert!(orders.admit(2).is_none());
        assert_eq!(orders.count(), 2);
        drop(first);
        assert!(orders.admit(2).is_some());
        drop(second);
        assert_eq!(orders.count(), 0);
    }
}
