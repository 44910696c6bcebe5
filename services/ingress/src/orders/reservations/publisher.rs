//! Sends events, and counts whether Kafka acknowledges them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use seckill_domain::{Event, EventBody, TraceParent};
use seckill_eventlog::{Delivery, DeliveryError, EventProducer, Redriven, SendError};
use seckill_metrics::Histogram;
use seckill_service::clock::BootInstant;
use seckill_service::traces::{self, Kind, Span};

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

/// A record that was passed to the producer. Pass it to [`Publisher::acknowledged`] in any case, or Kafka
/// looks silent for ever.
pub(super) struct Sent {
    delivery: Delivery,
    at: Duration,
    /// Of a trace that somebody records.
    span: Option<Box<Span>>,
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

    /// Hands `event` to the producer for a request; never waits. The record carries the context of its own
    /// span, which follows from the request's.
    pub(super) fn send_for(&self, request: TraceParent, event: &Event) -> Result<Sent, SendError> {
        self.send(event, Some(traces::child(request)), Some(request))
    }

    /// Hands `event` to the producer; never waits. The record carries `context`, and its span is sent if its
    /// `parent` is known.
    pub(super) fn send(
        &self,
        event: &Event,
        context: Option<TraceParent>,
        parent: Option<TraceParent>,
    ) -> Result<Sent, SendError> {
        let delivery = self.producer.send_event(event, context)?;
        let context = context.filter(|context| traces::wants(*context));
        let span = context.zip(parent);
        let span = span.map(|(context, parent)| Box::new(publishing(event, context, parent)));
        Ok(self.sent(delivery, span))
    }

    /// Hands a record to the producer that the log has had before; never waits. It carries the context that it had.
    pub(super) fn send_again(&self, record: &Redriven) -> Result<Sent, SendError> {
        let delivery = self.producer.send_again(record)?;
        Ok(self.sent(delivery, None))
    }

    fn sent(&self, delivery: Delivery, span: Option<Box<Span>>) -> Sent {
        let at = self.now();
        self.health().sent(at);
        Sent { delivery, at, span }
    }

    /// Waits for the result of a record. Dropping this future loses nothing: call it again.
    pub(super) async fn acknowledged(&self, sent: &mut Sent) -> Result<(), DeliveryError> {
        let outcome = (&mut sent.delivery).await;
        let now = self.now();
        if let Some(span) = sent.span.take() {
            match &outcome {
                Ok(_) => span.end(),
                Err(error) => span.failed(error.to_string()).end(),
            }
        }
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

/// The span of a record that is on its way. An order's own span, to which all that comes later links, is
/// sent with its reservation.
fn publishing(event: &Event, context: TraceParent, parent: TraceParent) -> Span {
    let (now, voucher) = (SystemTime::now(), event.voucher_id.get());
    let name = format!("publish {}", event.body.name());
    let span = Span::new(name, Kind::Producer, context, Some(parent), now)
        .with("messaging.system", "kafka")
        .with("messaging.message.id", event.event_id.to_string())
        .with("seckill.voucher_id", voucher);
    let Some(order_id) = event.body.order_id() else {
        return span;
    };
    let (order, id) = (traces::of_order(order_id), order_id.to_string());
    if matches!(event.body, EventBody::SeckillReserved(_)) {
        Span::new("order", Kind::Internal, order, None, now)
            .with("seckill.order_id", id.clone())
            .linked([context])
            .end();
        span.with("seckill.order_id", id)
    } else {
        span.with("seckill.order_id", id).linked([order])
    }
}
