//! What becomes of the records that a producer was given: told to whoever waits, and watched.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::thread::Thread;
use std::time::Instant;

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, Producer, ProducerContext, ThreadedProducer};
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
/// As metrics and logs call it.
const CLIENT: &str = "producer";

/// The ack of one record, in the future. Dropping it does not take the record back.
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
    /// A topic that is not ours: not watched.
    Foreign,
}

/// Goes with each record to its end.
pub(crate) struct Ticket {
    lane: Lane,
    ack: oneshot::Sender<Result<Delivered, DeliveryError>>,
}

#[derive(Default)]
struct Counts {
    in_flight: AtomicUsize,
    /// Acks, and what a broker refused.
    answers: AtomicU64,
    /// The last of them had no answer in time.
    timed_out: AtomicBool,
}

/// The books on all that was sent.
pub(crate) struct Acks {
    /// By partition of the event topic; then the outcomes, the states, the dead letters and the rest.
    lanes: Vec<Counts>,
    event_partitions: usize,
    failed: watch::Sender<Option<String>>,
    /// Looks at the client; to be woken when something went wrong.
    watcher: OnceLock<Thread>,
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
            watcher: OnceLock::new(),
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

    /// It was not taken after all.
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
                if outcome.is_err() {
                    self.wake();
                }
            }
            Err(DeliveryError::TimedOut) => counts.timed_out.store(true, Ordering::Relaxed),
            Err(DeliveryError::Fatal) => self.fail("a record met a producer that had failed"),
        }
        // Nobody waits for it any more.
        let _ = ticket.ack.send(outcome);
    }

    /// Has the client asked whether it has failed for good: an error does not say that itself.
    fn wake(&self) {
        if let Some(watcher) = self.watcher.get() {
            watcher.unpark();
        }
    }

    /// The producer has failed for good. The first reason counts.
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

    /// Waits until the producer has failed for good, and says why.
    pub(crate) async fn until_failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        // The sender is ours, and so it is there.
        let why = failed.wait_for(Option::is_some).await.ok();
        why.and_then(|why| why.clone()).unwrap_or_default()
    }
}

/// What the client calls back.
pub(crate) struct AcksContext(pub(crate) Arc<Acks>);

impl ClientContext for AcksContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::error!(%error, reason, "the Kafka producer");
        self.0.wake();
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

/// Looks at what waits for its ack until the producer is gone; one that is stuck has failed for good.
struct Watcher {
    acks: Weak<Acks>,
    producer: Weak<ThreadedProducer<AcksContext>>,
    watches: [(Watch, Vec<Lane>); 4],
    /// Looks that a lane has gone without a record in flight, by its place among all.
    idle_looks: Vec<u32>,
}

/// Starts the watch over a producer.
pub(crate) fn watch_producer(
    acks: &Arc<Acks>,
    producer: &Arc<ThreadedProducer<AcksContext>>,
    settings: &KafkaSettings,
    topics: &Topics,
) {
    let watch = |topic: &str| Watch::new(CLIENT, Kind::Writes, settings, topic);
    let partitions = 0..i32::try_from(acks.event_partitions).unwrap_or(i32::MAX);
    let watcher = Watcher {
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
    match thread.spawn(move || watcher.run()) {
        Ok(watcher) => {
            // The only one that is ever set.
            let _ = acks.watcher.set(watcher.thread().clone());
        }
        Err(error) => tracing::error!(%error, "the Kafka producer is not watched"),
    }
}

impl Watcher {
    fn run(mut self) {
        let mut look_due = Instant::now();
        while let (Some(acks), Some(producer)) = (self.acks.upgrade(), self.producer.upgrade()) {
            if let Some((code, why)) = producer.client().fatal_error() {
                acks.fail(&format!(
                    "the Kafka producer has failed for good: {code}: {why}"
                ));
                return;
            }
            if Instant::now() >= look_due {
                look_due = Instant::now() + LOOK_EVERY;
                if self.look(&acks) == Verdict::Stuck {
                    acks.fail("no record was acknowledged while a fresh client got answers");
                    return;
                }
            }
            drop((acks, producer));
            std::thread::park_timeout(look_due.saturating_duration_since(Instant::now()));
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
