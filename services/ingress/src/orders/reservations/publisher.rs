//! Sends events and keeps the books on whether Kafka acknowledges them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seckill_domain::{Event, TraceParent};
use seckill_eventlog::{Delivery, DeliveryError, EventProducer, SendError};
use seckill_metrics::Histogram;
use seckill_telemetry::clock::BootInstant;

use super::health::{KafkaDown, KafkaHealth};

use crate::metrics;

/// The producer, and what it has acknowledged lately.
pub(super) struct Publisher {
    producer: Arc<EventProducer>,
    health: Mutex<KafkaHealth>,
    /// Times in `health` count from here.
    origin: BootInstant,
    ack_seconds: Histogram,
}

/// A record that was handed to the producer. Whoever has one must see it through
/// [`Publisher::acknowledged`], or Kafka looks silent for ever.
pub(super) struct Sent {
    delivery: Delivery,
    at: Duration,
}

impl Publisher {
    pub(super) fn new(producer: Arc<EventProducer>, health: KafkaHealth) -> Self {
        Self {
            producer,
            health: Mutex::new(health),
            origin: BootInstant::now(),
            ack_seconds: metrics::PUBLISH_ACK_SECONDS.only(),
        }
    }

    /// Whether orders may be taken.
    pub(super) fn check(&self) -> Result<(), KafkaDown> {
        if self.producer.has_failed() {
            return Err(KafkaDown::ForGood);
        }
        self.health().check(self.now())
    }

    /// Hands `event` to the producer; never waits.
    pub(super) fn send(
        &self,
        event: &Event,
        traceparent: Option<TraceParent>,
    ) -> Result<Sent, SendError> {
        let delivery = self.producer.send_event(event, traceparent)?;
        let at = self.now();
        self.health().sent(at);
        Ok(Sent { delivery, at })
    }

    /// Waits for what becomes of a record. Dropping this call loses nothing: call it again.
    pub(super) async fn acknowledged(&self, sent: &mut Sent) -> Result<(), DeliveryError> {
        let outcome = (&mut sent.delivery).await;
        let now = self.now();
        match outcome {
            Ok(_) => {
                self.health().acknowledged(now);
                self.ack_seconds.record(now.saturating_sub(sent.at));
                Ok(())
            }
            Err(error) => {
                self.health().failed(now);
                Err(error)
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn health(&self) -> MutexGuard<'_, KafkaHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
