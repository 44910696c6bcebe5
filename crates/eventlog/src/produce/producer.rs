//! Writing to the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, FutureRecord, Producer};
use seckill_domain::{Event, EventError, Offset, Outcome, TraceParent, partition_of};

use crate::kafka::settings::{KafkaSettings, watermarks};
use crate::kafka::statistics;
use crate::kafka::topic_settings::DEAD_LETTER_MAX_BYTES;
use crate::kafka::topics::Topics;
use crate::produce::acks::{Acks, AcksContext, Delivery, Lane, start_polling};
use crate::registry::SchemaRegistry;
use crate::wire::events::encode_event;
use crate::wire::headers::Envelope;
use crate::wire::outcomes::{OutcomeRecord, encode_outcome};
use crate::wire::record::Record;

/// Records that may wait in the client; beyond that [`SendError::QueueFull`].
const QUEUE_MAX_RECORDS: &str = "100000";
const QUEUE_MAX_KIB: &str = "65536";

/// The position of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: Offset,
}

/// Why a record was not accepted. It is certainly not in the log.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// Too many records wait for their ack: refuse the request.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The producer has failed permanently: the process has to start again.
    #[error("the producer has failed and takes nothing any more")]
    Fatal,
    /// Readers would refuse it, so it is not written.
    #[error("no event may say that: {0}")]
    Invalid(#[from] EventError),
    /// The record itself, or its topic; or the id of its schema was never asked for (`learn_schema_ids`).
    #[error("the record was refused")]
    Refused(#[source] KafkaError),
}

/// Why there is no ack. After none of these is it certain that the record is not in the log, so
/// none of these ever justifies giving stock back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No ack within the delivery timeout; the record may have been written.
    #[error("no ack in time: the record may be in the log or not")]
    TimedOut,
    /// The producer has failed permanently: the process has to start again.
    #[error("the producer has failed for good")]
    Fatal,
    /// The broker or the client gave up.
    #[error("the broker did not accept the record")]
    Failed(#[source] KafkaError),
}

/// An idempotent producer of all topics. A clone is another handle of the same one.
#[derive(Clone)]
pub struct EventProducer {
    producer: Arc<BaseProducer<AcksContext>>,
    acks: Arc<Acks>,
    topics: Topics,
    event_partitions: i32,
    source: String,
    registry: Option<SchemaRegistry>,
}

impl EventProducer {
    /// Makes the client. It connects in the background: [`Self::warm_up`] waits for that. Events go
    /// to the first `event_partitions` partitions of their topic, `EVENT_PARTITIONS`, whatever their
    /// number has become: a voucher's place must not change when somebody adds some.
    ///
    /// # Errors
    /// [`KafkaError`] for settings that the client refuses.
    pub fn new(
        settings: &KafkaSettings,
        topics: &Topics,
        event_partitions: i32,
    ) -> Result<Self, KafkaError> {
        let delivery_ms = settings.delivery_timeout.as_millis().to_string();
        let linger_ms = settings.linger.as_secs_f64() * 1e3;
        let acks = Arc::new(Acks::new(event_partitions));
        let producer: BaseProducer<AcksContext> = settings
            .client_config()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", linger_ms.to_string())
            .set("delivery.timeout.ms", &delivery_ms)
            .set("request.timeout.ms", &delivery_ms)
            .set("statistics.interval.ms", statistics::INTERVAL_MS)
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.messages", QUEUE_MAX_RECORDS)
            .set("queue.buffering.max.kbytes", QUEUE_MAX_KIB)
            .set("message.max.bytes", DEAD_LETTER_MAX_BYTES)
            .create_with_context(AcksContext(Arc::clone(&acks)))?;
        let producer = Arc::new(producer);
        start_polling(&acks, &producer, settings, topics)?;
        Ok(Self {
            producer,
            acks,
            topics: topics.clone(),
            event_partitions,
            source: settings.client_id.clone(),
            registry: settings.registry.clone(),
        })
    }

    /// Queues an event under its voucher id. Without a trace a new one begins.
    ///
    /// # Errors
    /// [`SendError`]: the event is not in the log.
    pub fn send_event(
        &self,
        event: &Event,
        trace: Option<TraceParent>,
    ) -> Result<Delivery, SendError> {
        event.check()?;
        let envelope = Envelope {
            id: event.event_id,
            record: event.body.name(),
            source: &self.source,
            occurred_at: event.occurred_at,
            trace,
        };
        let record = FutureRecord::to(&self.topics.events).headers(envelope.headers());
        let payload = self.framed(event.body.name(), encode_event(event))?;
        let key = event.voucher_id.to_string();
        let record = record.partition(self.event_partition(key.as_bytes()));
        self.send(record.key(key.as_bytes()).payload(&payload))
    }

    /// A message of ours, under the registry's id of its schema where there is a registry.
    fn framed(&self, record: &'static str, mut payload: Vec<u8>) -> Result<Vec<u8>, SendError> {
        match &self.registry {
            Some(registry) if !registry.frame(record, &mut payload) => {
                tracing::error!(
                    record,
                    "the schema registry has not told the id of its schema"
                );
                let code = RDKafkaErrorCode::NotConfigured;
                Err(SendError::Refused(KafkaError::MessageProduction(code)))
            }
            _ => Ok(payload),
        }
    }

    /// The partition of a key's events.
    fn event_partition(&self, key: &[u8]) -> i32 {
        partition_of(key, self.event_partitions)
    }

    /// Queues an outcome under its order id, or its voucher id if it is about the sale itself. What was decided
    /// of an order is its state, too: the same record goes to the states. The future is the ack of all of it.
    ///
    /// # Errors
    /// [`SendError`]: the outcome is not in its topics.
    pub fn send_outcome(
        &self,
        outcome: &OutcomeRecord,
        trace: Option<TraceParent>,
    ) -> Result<impl Future<Output = Result<(), DeliveryError>> + use<>, SendError> {
        let (payload, key) = (self.outcome_payload(outcome)?, outcome.key().to_string());
        let headers = self.outcome_headers(outcome, trace);
        let send = |topic, headers| {
            let record = FutureRecord::to(topic).headers(headers);
            self.send(record.key(key.as_bytes()).payload(&payload))
        };
        let (first, state) = match outcome.outcome {
            Outcome::Order(_) => {
                let first = send(&self.topics.outcomes, headers.clone())?;
                (first, Some(send(&self.topics.states, headers)?))
            }
            _ => (send(&self.topics.outcomes, headers)?, None),
        };
        Ok(async {
            first.await?;
            if let Some(state) = state {
                state.await?;
            }
            Ok(())
        })
    }

    /// Queues what was decided of an order last for the states alone.
    ///
    /// # Errors
    /// [`SendError`]: it is not in the topic.
    pub fn send_state(&self, state: &OutcomeRecord) -> Result<Delivery, SendError> {
        let (payload, key) = (self.outcome_payload(state)?, state.key().to_string());
        let record =
            FutureRecord::to(&self.topics.states).headers(self.outcome_headers(state, None));
        self.send(record.key(key.as_bytes()).payload(&payload))
    }

    fn outcome_payload(&self, outcome: &OutcomeRecord) -> Result<Vec<u8>, SendError> {
        self.framed(outcome.name(), encode_outcome(outcome))
    }

    fn outcome_headers(&self, outcome: &OutcomeRecord, trace: Option<TraceParent>) -> OwnedHeaders {
        let envelope = Envelope {
            id: outcome.event_id,
            record: outcome.name(),
            source: &self.source,
            occurred_at: outcome.occurred_at,
            trace,
        };
        envelope.headers()
    }

    /// Queues a record as it is for any topic, which has to be there: payload, key and headers. Its
    /// partition there is its key's, in the event topic one of the first `EVENT_PARTITIONS`; its
    /// timestamp becomes that of the copy.
    ///
    /// # Errors
    /// [`SendError`]: the copy is not in the topic.
    pub fn send_copy(&self, topic: &str, record: &Record) -> Result<Delivery, SendError> {
        let mut copy = FutureRecord::to(topic).headers(record.headers.to_client());
        copy.key = record.key.as_deref();
        copy.payload = record.payload.as_deref();
        if topic == self.topics.events {
            copy.partition = Some(self.event_partition(copy.key.unwrap_or_default()));
        }
        self.send(copy)
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }

    pub(crate) fn send(&self, record: FutureRecord<'_, [u8], [u8]>) -> Result<Delivery, SendError> {
        if self.acks.has_failed() {
            return Err(SendError::Fatal);
        }
        let (ticket, delivery) = self.acks.send(self.lane(&record));
        let record = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: record.timestamp,
            headers: record.headers,
            delivery_opaque: Box::new(ticket),
        };
        let Err((error, record)) = self.producer.send(record) else {
            return Ok(delivery);
        };
        self.acks.unsent(&record.delivery_opaque);
        Err(match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => SendError::QueueFull,
            Some(RDKafkaErrorCode::Fatal) => {
                self.acks.fail("a record met a producer that had failed");
                SendError::Fatal
            }
            _ => SendError::Refused(error),
        })
    }

    fn lane(&self, record: &FutureRecord<'_, [u8], [u8]>) -> Lane {
        match record.partition {
            Some(partition) if record.topic == self.topics.events => Lane::Events(partition),
            _ if record.topic == self.topics.outcomes => Lane::Outcomes,
            _ if record.topic == self.topics.states => Lane::States,
            _ if record.topic == self.topics.dead_letters => Lane::DeadLetters,
            _ => Lane::Foreign,
        }
    }

    /// Whether the producer has failed permanently: the client said so, or it was stuck. It accepts no more
    /// records, and the process has to start again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.acks.has_failed()
    }

    /// Waits until the producer has failed permanently, and returns the reason.
    pub async fn until_failed(&self) -> String {
        self.acks.until_failed().await
    }

    /// Connects to the leaders of every partition of the event topic, so that the first order does
    /// not wait for that.
    ///
    /// # Errors
    /// [`KafkaError`] when the cluster has not answered within `timeout`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn warm_up(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.blocking(move |producer| {
            let deadline = Instant::now() + timeout;
            let client = producer.producer.client();
            for partition in 0..producer.event_partitions {
                watermarks(client, &producer.topics.events, partition, deadline)?;
            }
            Ok(())
        })
        .await
    }

    /// Waits until everything queued is acknowledged or has failed.
    ///
    /// # Errors
    /// [`KafkaError`] when that takes longer than `timeout`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.blocking(move |producer| producer.producer.flush(timeout))
            .await
    }

    /// Runs a call of the client that blocks on a thread that may block.
    async fn blocking(
        &self,
        work: impl FnOnce(&Self) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<(), KafkaError> {
        let producer = self.clone();
        tokio::task::spawn_blocking(move || work(&producer))
            .await
            .unwrap_or(Err(KafkaError::Canceled))
    }

    /// How many records wait for their ack, and errors for being reported.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}
