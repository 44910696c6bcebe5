//! The result of each record that a producer was given: it is passed to the caller that waits, and supervised.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::statistics::Statistics;
use seckill_domain::Offset;
use tokio::sync::{oneshot, watch};

use crate::kafka::progress::{Kind, LOOK_EVERY, Verdict, Watch};
use crate::kafka::settings::KafkaSettings;
use crate::kafka::statistics;
use crate::kafka::topics::Topics;
use crate::produce::producer::{Delivered, DeliveryError};

/// What timed out is sent again soon: for so long its lane counts as waiting with nothing in flight.
const TRIES_AGAIN_WITHIN_LOOKS: u32 = 4;
/// Added to a wait for results. The client waits for whole milliseconds, and polls without a pause for what is left of
/// the last one. If no result comes, this is what is left, and not nearly a millisecond.
const BEYOND_MILLISECONDS: Duration = Duration::from_micros(200);
/// Its name in metrics and logs.
const CLIENT: &str = "producer";

/// A future that is the ack of one record. The record is sent even if it is dropped.
#[must_use = "a record counts only once its ack is there"]
pub struct Delivery(oneshot::Receiver<Result<Delivered, DeliveryError>>);

impl Future for Delivery {
    type Output = Result<Delivered, DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ack = Pin::new(&mut self.0).poll(context);
        ack.map(|ack| ack.unwrap_or(Err(DeliveryError::Fatal)))
    }
}

/// Which records wait together: those of one partition of the event topic, or all of another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    Events(i32),
    Outcomes,
    States,
    DeadLetters,
    /// Another topic: it is not supervised.
    Foreign,
}

/// The client returns it with the result of each record.
pub(crate) struct Ticket {
    lane: Lane,
    ack: oneshot::Sender<Result<Delivered, DeliveryError>>,
}

#[derive(Default)]
struct Counts {
    in_flight: AtomicUsize,
    /// Acks, and records that a broker refused.
    answers: AtomicU64,
    /// The last of them had no answer in time.
    timed_out: AtomicBool,
}

/// The counts of all records that were sent.
pub(crate) struct Acks {
    /// By partition of the event topic; then the outcomes, the states, the dead letters and the rest.
    lanes: Vec<Counts>,
    event_partitions: usize,
    failed: watch::Sender<Option<String>>,
}

impl Acks {
    pub(crate) fn new(event_partitions: i32) -> Self {
        let event_partitions = usize::try_from(event_partitions).unwrap_or(0);
        let mut lanes = Vec::new();
        lanes.resize_with(event_partitions + 4, Counts::default);
        Self {
            lanes,
            event_partitions,
            failed: watch::Sender::new(None),
        }
    }

    fn counts(&self, lane: Lane) -> &Counts {
        let others = self.event_partitions;
        let at = match lane {
            Lane::Events(partition) => usize::try_from(partition).unwrap_or(others).min(others),
            Lane::Outcomes => others,
            Lane::States => others + 1,
            Lane::DeadLetters => others + 2,
            Lane::Foreign => others + 3,
        };
        &self.lanes[at]
    }

    /// A record is about to be sent.
    pub(crate) fn send(&self, lane: Lane) -> (Ticket, Delivery) {
        self.counts(lane).in_flight.fetch_add(1, Ordering::Relaxed);
        let (ack, delivery) = oneshot::channel();
        (Ticket { lane, ack }, Delivery(delivery))
    }

    /// The client did not take it.
    pub(crate) fn unsent(&self, ticket: &Ticket) {
        let counts = self.counts(ticket.lane);
        counts.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn delivered(&self, ticket: Ticket, outcome: Result<Delivered, DeliveryError>) {
        let counts = self.counts(ticket.lane);
        counts.in_flight.fetch_sub(1, Ordering::Relaxed);
        match &outcome {
            Ok(_) | Err(DeliveryError::Failed(_)) => {
                counts.answers.fetch_add(1, Ordering::Relaxed);
                counts.timed_out.store(false, Ordering::Relaxed);
            }
            Err(DeliveryError::TimedOut) => counts.timed_out.store(true, Ordering::Relaxed),
            Err(DeliveryError::Fatal) => self.fail("a record met a producer that had failed"),
        }
        // The caller does not wait any more.
        let _ = ticket.ack.send(outcome);
    }

    /// The producer has failed permanently. The first reason counts.
    pub(crate) fn fail(&self, why: &str) {
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert_with(|| why.to_owned());
            is_first
        });
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.borrow().is_some()
    }

    /// Waits until the producer has failed permanently, and returns the reason.
    pub(crate) async fn until_failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        // The sender is a field of this struct, so it still exists.
        let why = failed.wait_for(Option::is_some).await.ok();
        why.and_then(|why| why.clone()).unwrap_or_default()
    }
}

/// The callbacks of the client.
pub(crate) struct AcksContext(pub(crate) Arc<Acks>);

impl ClientContext for AcksContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::error!(%error, reason, "the Kafka producer");
    }

    fn stats(&self, statistics: Statistics) {
        statistics::measure(CLIENT, &statistics);
    }
}

impl ProducerContext for AcksContext {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(message) => Ok(Delivered {
                partition: message.partition(),
                offset: Offset::new(message.offset()),
            }),
            Err((error, _)) => Err(delivery_error(error.clone())),
        };
        self.0.delivered(*ticket, outcome);
    }
}

fn delivery_error(error: KafkaError) -> DeliveryError {
    match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageTimedOut) => DeliveryError::TimedOut,
        Some(RDKafkaErrorCode::Fatal) => DeliveryError::Fatal,
        _ => DeliveryError::Failed(error),
    }
}

/// Passes results on and supervises the records that wait for theirs, until the producer is gone. A producer that is
/// stuck has failed permanently.
struct Poller {
    acks: Weak<Acks>,
    producer: Weak<BaseProducer<AcksContext>>,
    watches: [(Watch, Vec<Lane>); 4],
    /// Looks that a lane has gone without a record in flight, by its place among all.
    idle_looks: Vec<u32>,
}

/// Starts the thread that polls a producer. Without it no result would ever come.
pub(crate) fn start_polling(
    acks: &Arc<Acks>,
    producer: &Arc<BaseProducer<AcksContext>>,
    settings: &KafkaSettings,
    topics: &Topics,
) -> Result<(), KafkaError> {
    let watch = |topic: &str| Watch::new(CLIENT, Kind::Writes, settings, topic);
    let partitions = 0..i32::try_from(acks.event_partitions).unwrap_or(i32::MAX);
    let poller = Poller {
        acks: Arc::downgrade(acks),
        producer: Arc::downgrade(producer),
        watches: [
            (
                watch(&topics.events),
                partitions.map(Lane::Events).collect(),
            ),
            (watch(&topics.outcomes), vec![Lane::Outcomes]),
            (watch(&topics.states), vec![Lane::States]),
            (watch(&topics.dead_letters), vec![Lane::DeadLetters]),
        ],
        idle_looks: vec![TRIES_AGAIN_WITHIN_LOOKS; acks.lanes.len()],
    };
    let thread = std::thread::Builder::new().name("kafka-acks".to_owned());
    let started = thread.spawn(move || poller.run());
    started.map_err(|error| KafkaError::ClientCreation(format!("no thread for it: {error}")))?;
    Ok(())
}

impl Poller {
    fn run(mut self) {
        while let (Some(acks), Some(producer)) = (self.acks.upgrade(), self.producer.upgrade()) {
            producer.poll(LOOK_EVERY + BEYOND_MILLISECONDS);
            if acks.has_failed() {
                continue;
            }
            if let Some((code, why)) = producer.client().fatal_error() {
                acks.fail(&format!(
                    "the Kafka producer has failed for good: {code}: {why}"
                ));
            } else if self.look(&acks) == Verdict::Stuck {
                acks.fail("no record was acknowledged while a fresh client got answers");
            }
        }
    }

    fn look(&mut self, acks: &Acks) -> Verdict {
        let mut place = 0;
        let mut worst = Verdict::Fine;
        for (watch, lanes) in &mut self.watches {
            let mut waiting = Vec::new();
            for lane in lanes.iter() {
                let counts = acks.counts(*lane);
                let idle_looks = &mut self.idle_looks[place];
                place += 1;
                if counts.in_flight.load(Ordering::Relaxed) > 0 {
                    *idle_looks = 0;
                } else {
                    *idle_looks = idle_looks.saturating_add(1);
                }
                let tries_again = counts.timed_out.load(Ordering::Relaxed)
                    && *idle_looks < TRIES_AGAIN_WITHIN_LOOKS;
                if *idle_looks == 0 || tries_again {
                    let answers = counts.answers.load(Ordering::Relaxed);
                    waiting.push((partition_of(*lane), i64::try_from(answers).unwrap_or(0)));
                }
            }
            if watch.look(&waiting) == Verdict::Stuck {
                worst = Verdict::Stuck;
            }
        }
        worst
    }
}

/// As the watch names it: -1 is any.
const fn partition_of(lane: Lane) -> i32 {
    match lane {
        Lane::Events(partition) => partition,
        Lane::Outcomes | Lane::States | Lane::DeadLetters | Lane::Foreign => -1,
    }
}
