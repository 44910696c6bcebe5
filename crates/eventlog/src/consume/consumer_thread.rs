//! The consumer's own thread: polling, rebalances, and the commands of the handle.

use std::collections::HashMap;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
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
use crate::consume::partitions::{Assignment, Flow, Partitions};
use crate::kafka::progress::{Kind, LOOK_EVERY, Verdict, Watch};
use crate::kafka::statistics;
use crate::read::reader::position;
use crate::wire::record::Record;

/// Its name in metrics and logs.
const CLIENT: &str = "fold";
/// How long a poll may wait, and so how long a command may.
const POLL: Duration = Duration::from_millis(50);
/// The same while a reader is behind, so that its channel does not become empty.
const POLL_WITH_BACKLOG: Duration = Duration::from_millis(2);
const POSITIONS_RETRY_FIRST: Duration = Duration::from_millis(50);
const POSITIONS_RETRY_MAX: Duration = Duration::from_secs(2);

/// What rebalances need; they run inside `poll`, on the consumer's thread.
struct Rebalancer {
    topic: String,
    positions: Arc<dyn Positions>,
    shared: Arc<ConsumerState>,
    partitions: Mutex<Partitions>,
    /// Partitions that the group took away without being asked, with their positions, until the group assigns
    /// partitions again.
    lost: Mutex<Vec<(i32, Offset)>>,
    /// A rebalance cannot return an error, so it is stored here for the loop.
    failure: Mutex<Option<KafkaError>>,
}

impl Rebalancer {
    fn partitions(&self) -> MutexGuard<'_, Partitions> {
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
        for (partition, start) in &starts {
            let offset = KafkaOffset::Offset(start.get());
            list.set_partition_offset(&self.topic, *partition, offset)?;
        }
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(list)?,
        }
        self.lost().clear();
        let mut held = self.partitions();
        for (partition, start) in starts {
            tracing::info!(partition, start = start.get(), "partition assigned");
            held.open(partition, start);
        }
        Ok(())
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        if lost {
            *self.lost() = self.partitions().waiting();
        }
        let mut paused = Vec::new();
        for partition in partitions_in(list) {
            tracing::info!(partition, lost, "partition revoked");
            if self.partitions().close(partition) {
                paused.push(partition);
            }
        }
        // The client remembers a pause. If the partition came back, it would begin paused.
        if !paused.is_empty() {
            consumer.resume(&self.list_of(paused))?;
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
    consumer: BaseConsumer<Rebalancer>,
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
        let consumer: BaseConsumer<Rebalancer> = config.create_with_context(Rebalancer {
            topic: options.topic.clone(),
            positions,
            shared: Arc::clone(&shared),
            partitions: Mutex::new(partitions),
            lost: Mutex::default(),
            failure: Mutex::new(None),
        })?;
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
        let result = self.poll_until_stopped();
        if let Err(error) = &result {
            tracing::error!(error = %error, "the consumer stopped");
        }
        result
    }

    fn poll_until_stopped(&mut self) -> Result<(), ConsumerError> {
        while !self.shared.is_stopping() {
            self.shared.beat();
            while let Ok(command) = self.commands.try_recv() {
                self.obey(command)?;
            }
            self.look()?;
            let wait = if self.resume_where_drained()? {
                POLL_WITH_BACKLOG
            } else {
                POLL
            };
            match self.consumer.poll(wait) {
                None => {}
                Some(Ok(message)) => self.deliver(Record::copy_of(&message))?,
                Some(Err(error)) => tolerate(error)?,
            }
            if let Some(error) = self.consumer.context().failure() {
                return Err(error.into());
            }
        }
        Ok(())
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
        if held.close(partition) {
            self.consumer.resume(&list)?;
        }
        self.consumer.incremental_unassign(&list)?;
        list.set_partition_offset(&context.topic, partition, KafkaOffset::Offset(offset.get()))?;
        self.consumer.incremental_assign(&list)?;
        held.open(partition, offset);
        Ok(())
    }

    /// True while a reader is behind.
    fn resume_where_drained(&self) -> Result<bool, ConsumerError> {
        let context = self.consumer.context();
        let mut held = context.partitions();
        if !held.has_backlog() {
            return Ok(false);
        }
        let resumed = held.drain();
        if !resumed.is_empty() {
            self.consumer.resume(&context.list_of(resumed))?;
        }
        Ok(held.has_backlog())
    }

    fn deliver(&self, record: Record) -> Result<(), ConsumerError> {
        fail::fail_point!("eventlog.deliver");
        let context = self.consumer.context();
        let partition = record.partition;
        if context.partitions().deliver(record) == Flow::Pause {
            self.consumer.pause(&context.list_of([partition]))?;
        }
        Ok(())
    }
}

/// The client recovers from most errors by itself, but not from a fatal one. It stops fetching a partition
/// whose log was cut before the position. The fold notices that when it looks for its last record.
fn tolerate(error: KafkaError) -> Result<(), ConsumerError> {
    match &error {
        KafkaError::MessageConsumptionFatal(_) => Err(error.into()),
        _ => {
            tracing::warn!(%error, "the consumer goes on after an error");
            Ok(())
        }
    }
}
