//! The consumer's own thread: rebalances, passing records on, and the commands of the handle.
//!
//! Each partition has a queue of its own in the client (`split_partition_queue`), so that a reader that is behind holds
//! up no other, and nothing that was fetched is thrown away and fetched again.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{
    Offset as KafkaOffset, TopicPartitionList, TopicPartitionListElem,
};
use rdkafka::types::RDKafkaRespErr;
use seckill_domain::Offset;
use tokio::sync::mpsc;

use crate::consume::consumer::{ConsumerError, ConsumerOptions, Positions};
use crate::consume::consumer_state::{Command, ConsumerState};
use crate::consume::partitions::{Assignment, Partitions};
use crate::kafka::progress::{Kind, LOOK_EVERY, Verdict, Watch};
use crate::kafka::statistics;
use crate::read::reader::position;

/// Its name in metrics and logs.
const CLIENT: &str = "fold";
/// How long the thread rests if nothing wakes it.
const REST: Duration = Duration::from_millis(50);
/// The same while a reader is behind, so that its channel does not become empty.
const REST_WITH_BACKLOG: Duration = Duration::from_millis(2);
const POSITIONS_RETRY_FIRST: Duration = Duration::from_millis(50);
const POSITIONS_RETRY_MAX: Duration = Duration::from_secs(2);

/// What rebalances need; they run inside `poll`, on the consumer's thread.
struct Rebalancer {
    /// The consumer, which has this.
    consumer: OnceLock<Weak<BaseConsumer<Rebalancer>>>,
    topic: String,
    positions: Arc<dyn Positions>,
    shared: Arc<ConsumerState>,
    partitions: Mutex<Partitions<PartitionQueue<Rebalancer>>>,
    /// Partitions that the group took away without being asked, with their positions, until the group assigns
    /// partitions again.
    lost: Mutex<Vec<(i32, Offset)>>,
    /// A rebalance cannot return an error, so it is stored here for the loop.
    failure: Mutex<Option<KafkaError>>,
}

impl Rebalancer {
    fn partitions(&self) -> MutexGuard<'_, Partitions<PartitionQueue<Self>>> {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Vec<(i32, Offset)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: KafkaError) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(error);
    }

    fn failure(&self) -> Option<KafkaError> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }

    fn list_of(&self, partitions: impl IntoIterator<Item = i32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, partition);
        }
        list
    }

    /// A partition's own queue. This comes before the partition is assigned: the records that are fetched before it
    /// would go to the queue of all.
    fn queue_of(&self, partition: i32) -> KafkaResult<PartitionQueue<Self>> {
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let queue = consumer.and_then(|own| own.split_partition_queue(&self.topic, partition));
        let mut queue = queue.ok_or(KafkaError::Canceled)?;
        let shared = Arc::clone(&self.shared);
        queue.set_nonempty_callback(move || shared.wake());
        Ok(queue)
    }

    /// None when the consumer is to stop before there is an answer.
    fn starts(&self, partitions: &[i32]) -> Option<Vec<(i32, Offset)>> {
        let mut delay = POSITIONS_RETRY_FIRST;
        while !self.shared.is_stopping() {
            self.shared.beat();
            match self.positions.next_offsets(partitions) {
                Ok(known) => {
                    let known: HashMap<_, _> = known.into_iter().collect();
                    let start = |p: &i32| known.get(p).copied().unwrap_or(Offset::new(0));
                    return Some(partitions.iter().map(|p| (*p, start(p))).collect());
                }
                Err(error) => {
                    tracing::warn!(%error, ?partitions, "positions unknown, asking again");
                    std::thread::sleep(delay);
                    delay = (delay * 2).min(POSITIONS_RETRY_MAX);
                }
            }
        }
        None
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        let partitions = partitions_in(list);
        // None: the consumer is stopping. The client still needs the assignment, or it could not be
        // closed. Without channels no record is passed on.
        let starts = self.starts(&partitions).unwrap_or_default();
        let mut opened = Vec::with_capacity(starts.len());
        for (partition, start) in starts {
            let offset = KafkaOffset::Offset(start.get());
            list.set_partition_offset(&self.topic, partition, offset)?;
            opened.push((partition, start, self.queue_of(partition)?));
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list)?,
        }
        self.lost().clear();
        let mut held = self.partitions();
        for (partition, start, queue) in opened {
            tracing::info!(partition, start = start.get(), "partition assigned");
            held.open(partition, start, queue);
        }
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        if lost {
            *self.lost() = self.partitions().waiting();
        }
        for partition in partitions_in(list) {
            tracing::info!(partition, lost, "partition revoked");
            self.partitions().close(partition);
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        }
    }
}

fn partitions_in(list: &TopicPartitionList) -> Vec<i32> {
    list.elements()
        .iter()
        .map(TopicPartitionListElem::partition)
        .collect()
}

impl ClientContext for Rebalancer {
    fn stats(&self, statistics: Statistics) {
        statistics::measure(CLIENT, &statistics);
    }
}

impl ConsumerContext for Rebalancer {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let done = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list)
        } else {
            self.revoke(consumer, list)
        };
        if let Err(error) = done {
            self.fail(error);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::warn!(%error, "the group's offsets were not committed");
        }
    }
}

/// The state of the thread.
pub(crate) struct ConsumerThread {
    consumer: Arc<BaseConsumer<Rebalancer>>,
    commands: Receiver<Command>,
    shared: Arc<ConsumerState>,
    reads: Watch,
    joins: Watch,
    look_due: Instant,
}

impl ConsumerThread {
    pub(crate) fn new(
        config: &ClientConfig,
        options: &ConsumerOptions,
        positions: Arc<dyn Positions>,
        assignments: mpsc::UnboundedSender<Assignment>,
        commands: Receiver<Command>,
        shared: Arc<ConsumerState>,
    ) -> Result<Self, ConsumerError> {
        let partitions = Partitions::new(assignments, options.buffer_records);
        let mut consumer: BaseConsumer<Rebalancer> = config.create_with_context(Rebalancer {
            consumer: OnceLock::new(),
            topic: options.topic.clone(),
            positions,
            shared: Arc::clone(&shared),
            partitions: Mutex::new(partitions),
            lost: Mutex::default(),
            failure: Mutex::new(None),
        })?;
        let waker = Arc::clone(&shared);
        consumer.set_nonempty_callback(move || waker.wake());
        let consumer = Arc::new(consumer);
        let own = Arc::downgrade(&consumer);
        consumer.context().consumer.get_or_init(|| own);
        consumer.subscribe(&[&options.topic])?;
        let watch = |kind| Watch::new(CLIENT, kind, &options.settings, &options.topic);
        Ok(Self {
            consumer,
            commands,
            shared,
            reads: watch(Kind::Reads),
            joins: watch(Kind::Joins),
            look_due: Instant::now(),
        })
    }

    /// Runs until it is told to stop, or cannot continue.
    pub(crate) fn run(mut self) -> Result<(), ConsumerError> {
        self.shared.runs_here();
        let result = self.work_until_stopped();
        if let Err(error) = &result {
            tracing::error!(error = %error, "the consumer stopped");
        }
        result
    }

    fn work_until_stopped(&mut self) -> Result<(), ConsumerError> {
        while !self.shared.is_stopping() {
            self.shared.beat();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command)?;
            }
            self.look()?;
            self.serve_events()?;
            let more = self.consumer.context().partitions().pass_on(tolerate)?;
            std::thread::park_timeout(if more { REST_WITH_BACKLOG } else { REST });
        }
        Ok(())
    }

    /// Rebalances and errors. Records come by the queues of their partitions.
    fn serve_events(&self) -> Result<(), ConsumerError> {
        while let Some(event) = self.consumer.poll(Duration::ZERO) {
            match event {
                // It was passed over by its partition's queue: it and those behind it are read again.
                Ok(message) => {
                    self.restart(message.partition(), Offset::new(message.offset()))?;
                }
                Err(error) => tolerate(error)?,
            }
        }
        match self.consumer.context().failure() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// Checks that every partition that waits for a record has the position that a new client would have, and
    /// that the group assigns partitions again to a member that it has dropped.
    fn look(&mut self) -> Result<(), ConsumerError> {
        if Instant::now() < self.look_due {
            return Ok(());
        }
        self.look_due = Instant::now() + LOOK_EVERY;
        let context = self.consumer.context();
        let waiting = context.partitions().waiting();
        let mut stand = Vec::with_capacity(waiting.len());
        for (partition, next) in waiting {
            // Offsets that belong to no record are passed too.
            let at = position(&self.consumer, &context.topic, partition)?;
            stand.push((partition, at.max(next).get()));
        }
        let lost = context.lost().clone().into_iter();
        let lost: Vec<_> = lost
            .map(|(partition, next)| (partition, next.get()))
            .collect();
        let verdict = self.reads.look(&stand).max(self.joins.look(&lost));
        self.shared.judge(verdict);
        match verdict {
            Verdict::Fine | Verdict::Doubtful => Ok(()),
            Verdict::Stuck => Err(ConsumerError::Stuck),
        }
    }

    fn obey(&self, command: Command) -> KafkaResult<()> {
        match command {
            Command::Restart { partition, offset } => return self.restart(partition, offset),
            Command::Commit { partition, next } => {
                let mut list = TopicPartitionList::new();
                let topic = &self.consumer.context().topic;
                let offset = KafkaOffset::Offset(next.get());
                let committed = list
                    .add_partition_offset(topic, partition, offset)
                    .and_then(|()| self.consumer.commit(&list, CommitMode::Async));
                if let Err(error) = committed {
                    tracing::warn!(%error, partition, "the group's offset was not committed");
                }
            }
        }
        Ok(())
    }

    /// Reads a partition again from `offset` on. This is not done by a seek: the client refuses a seek while it
    /// looks for the partition's leader, and always after the log did not have a position.
    fn restart(&self, partition: i32, offset: Offset) -> KafkaResult<()> {
        let context = self.consumer.context();
        let mut held = context.partitions();
        if !held.holds(partition) {
            return Ok(());
        }
        let mut list = context.list_of([partition]);
        held.close(partition);
        self.consumer.incremental_unassign(&list)?;
        let queue = context.queue_of(partition)?;
        list.set_partition_offset(&context.topic, partition, KafkaOffset::Offset(offset.get()))?;
        self.consumer.incremental_assign(&list)?;
        held.open(partition, offset, queue);
        Ok(())
    }
}

/// The queues keep the consumer, which keeps them: they go first.
impl Drop for ConsumerThread {
    fn drop(&mut self) {
        self.consumer.context().partitions().close_all();
    }
}

/// The client recovers from most errors by itself, but not from a fatal one. It stops fetching a partition
/// whose log was cut before the position. The fold notices that when it looks for its last record.
fn tolerate(error: KafkaError) -> KafkaResult<()> {
    match &error {
        KafkaError::MessageConsumptionFatal(_) => Err(error),
        _ => {
            tracing::warn!(%error, "the consumer goes on after an error");
            Ok(())
        }
    }
}
