//! Reading the event topic as one of a group, from the positions that the view itself keeps.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rdkafka::error::KafkaError;
use seckill_domain::Offset;
use tokio::sync::mpsc;

use crate::consume::consumer_state::{Command, ConsumerState};
use crate::consume::consumer_thread::ConsumerThread;
use crate::consume::partitions::Assignment;
use crate::kafka::settings::KafkaSettings;
use crate::kafka::statistics;

/// Long enough that a broker may stop for six seconds after a heartbeat without ending its members'
/// sessions. Not longer: a broker that comes back gives each member a whole new session, and a member that
/// lost its session meanwhile has to wait until the group has removed its old membership. A member that is
/// only slow loses its partitions too. That costs a rebalance and nothing else: its late batches are refused
/// by the view's position.
const SESSION_TIMEOUT_MS: &str = "7000";
const HEARTBEAT_INTERVAL_MS: &str = "1000";

/// The most bytes of a partition in one fetch: what is fetched ahead may be so much more than wanted.
const FETCH_MAX_BYTES: &str = "262144";

/// The topic that is read, and the group that reads it.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// The cluster.
    pub settings: KafkaSettings,
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Records of one partition that may wait for their reader, at least 1, and as many again in the client.
    pub buffer_records: usize,
}

/// Why the positions are not known at the moment. The consumer asks for them again.
pub type PositionsError = Box<dyn std::error::Error + Send + Sync>;

/// The positions of the view. They alone decide what is read next.
pub trait Positions: Send + Sync + 'static {
    /// The offsets at which to begin. A partition that is not named begins at 0. Called on the
    /// consumer's own thread, during a rebalance: it may block.
    ///
    /// # Errors
    /// [`PositionsError`]: the consumer asks again, with growing delays, until it gets an answer
    /// or is shut down.
    fn next_offsets(&self, partitions: &[i32]) -> Result<Vec<(i32, Offset)>, PositionsError>;
}

/// Why a consumer stopped, or could not start.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The client refused its settings or a call.
    #[error("the Kafka consumer failed")]
    Client(#[from] KafkaError),
    /// It read nothing while a fresh client would have.
    #[error("{STUCK}")]
    Stuck,
    /// The thread could not be started, or ended without giving a reason.
    #[error("the consumer's thread failed: {0}")]
    Thread(String),
}

const STUCK: &str = "the Kafka consumer reads nothing while a fresh client gets answers";

/// The handle of a running consumer. Clones share one consumer, which stops when the last clone is dropped.
#[derive(Clone)]
pub struct ConsumerHandle {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    shared: Arc<ConsumerState>,
    thread: Mutex<Option<JoinHandle<Result<(), ConsumerError>>>>,
}

/// Joins the group and reads, on a thread of its own. Every partition that this process is given
/// arrives in the returned channel. The channel ends when the consumer stops; if that was not
/// asked for, [`ConsumerHandle::shutdown`] says why.
///
/// # Errors
/// [`ConsumerError`] when the client or its thread cannot be made.
///
/// # Panics
/// When `buffer_records` is 0.
pub fn start_consumer(
    options: &ConsumerOptions,
    positions: Arc<dyn Positions>,
) -> Result<(mpsc::UnboundedReceiver<Assignment>, ConsumerHandle), ConsumerError> {
    assert!(options.buffer_records > 0, "a channel holds something");
    let (assignments, assigned) = mpsc::unbounded_channel();
    let (commands, received) = channel();
    let shared = Arc::new(ConsumerState::new());
    let mut config = options.settings.following_config();
    config
        .set("group.id", &options.group)
        .set("statistics.interval.ms", statistics::INTERVAL_MS)
        .set("partition.assignment.strategy", "cooperative-sticky")
        // For this long the partitions of a consumer that was killed are given to nobody else.
        .set("session.timeout.ms", SESSION_TIMEOUT_MS)
        .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS)
        .set("queued.min.messages", options.buffer_records.to_string())
        .set("max.partition.fetch.bytes", FETCH_MAX_BYTES);
    let thread = ConsumerThread::new(
        &config,
        options,
        positions,
        assignments,
        received,
        Arc::clone(&shared),
    )?;
    let thread = std::thread::Builder::new()
        .name("kafka-consumer".to_owned())
        .spawn(move || thread.run())
        .map_err(|e| ConsumerError::Thread(e.to_string()))?;
    let inner = Inner {
        commands,
        shared,
        thread: Mutex::new(Some(thread)),
    };
    let handle = ConsumerHandle {
        inner: Arc::new(inner),
    };
    Ok((assigned, handle))
}

impl ConsumerHandle {
    /// Reads a partition again from `offset`, because the view's position is elsewhere: its channel
    /// ends, and a new [`Assignment`] comes. Nothing happens if the partition is another
    /// process's by now.
    pub fn restart(&self, partition: i32, offset: Offset) {
        self.command(Command::Restart { partition, offset });
    }

    /// Tells the cluster how far the group has come, for lag monitors; nothing reads it back.
    pub fn commit(&self, partition: i32, next: Offset) {
        self.command(Command::Commit { partition, next });
    }

    fn command(&self, command: Command) {
        // The thread has ended, and with it the partition that the command was about.
        let _ = self.inner.commands.send(command);
        self.inner.shared.wake();
    }

    /// When the thread's loop last ran. In a consumer that works it runs many times a second, also
    /// while it waits for positions.
    #[must_use]
    pub fn last_poll(&self) -> Instant {
        self.inner.shared.last_poll()
    }

    /// Whether a new client gets further than this one. Then this one is checked more often.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.inner.shared.is_doubtful()
    }

    /// Waits until the consumer reads nothing any more while a fresh client would, and says so. It ends
    /// then, which may take it a while: the process has to start again.
    pub async fn until_stuck(&self) -> String {
        self.inner.shared.until_stuck().await;
        STUCK.to_owned()
    }

    /// Leaves the group and ends every partition's channel, and returns when that is done. Again
    /// or later, it returns at once.
    ///
    /// # Errors
    /// [`ConsumerError`]: why the consumer had stopped before.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn shutdown(&self) -> Result<(), ConsumerError> {
        self.inner.shared.stop();
        let Some(thread) = self.take_thread() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(|| thread.join()).await;
        match joined {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ConsumerError::Thread("it panicked".to_owned())),
            Err(e) => Err(ConsumerError::Thread(e.to_string())),
        }
    }

    fn take_thread(&self) -> Option<JoinHandle<Result<(), ConsumerError>>> {
        let thread = self.inner.thread.lock();
        thread.unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
