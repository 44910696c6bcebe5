//! One assigned partition, with its two workers. They start and end together.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use seckill_domain::{Offset, Timestamp, VoucherId};
use seckill_ephemeral::SharedCache;
use seckill_eventlog::{
    Assignment, ConsumerHandle, EventProducer, KafkaSettings, RecordReader, Topics,
};
use seckill_orderbook::{FoldPosition, Orderbook, OrderbookError, View};
use seckill_service::health::Health;
use seckill_stock::Stock;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::standing::Standing;
use crate::traces::Traces;
use crate::{effects, fold};

/// What all workers of this process share.
pub(crate) struct ProjectorContext {
    pub(crate) config: Config,
    pub(crate) kafka: KafkaSettings,
    pub(crate) topics: Topics,
    pub(crate) group: String,
    pub(crate) orderbook: Orderbook,
    /// Connections for loads only, so that many loads cannot take the connections of the fold.
    pub(crate) loads: Orderbook,
    /// Loads that read and write holds at a time.
    pub(crate) load_permits: Semaphore,
    pub(crate) stock: Stock,
    /// The catalogue's cache, whose entries are deleted when a sale changes.
    pub(crate) cache: SharedCache,
    pub(crate) producer: EventProducer,
    pub(crate) consumer: ConsumerHandle,
    /// For reading single records of the log again.
    pub(crate) records: RecordReader,
    pub(crate) standing: Standing,
    pub(crate) health: Health,
    pub(crate) tasks: TaskTracker,
}

impl ProjectorContext {
    /// Where the fold of one partition stands, and in which log.
    pub(crate) async fn fold_position(
        &self,
        partition: i32,
    ) -> Result<FoldPosition, OrderbookError> {
        let topic = &self.topics.events;
        let positions = self.orderbook.fold_positions(topic, &[partition]).await?;
        let position = positions.first().map(|(_, position)| *position);
        Ok(position.unwrap_or_default())
    }

    /// Where a view of one partition stands.
    pub(crate) async fn position(
        &self,
        partition: i32,
        view: View,
    ) -> Result<Offset, OrderbookError> {
        let topic = &self.topics.events;
        let positions = self.orderbook.positions(topic, &[partition], view).await?;
        Ok(positions.first().map_or(Offset::new(0), |(_, at)| *at))
    }
}

/// The present time, for display: nothing is decided by it.
pub(crate) fn wall_clock() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}

/// A sale that Redis serves, as the watch saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) voucher_id: VoucherId,
    pub(crate) position: Offset,
}

/// A running partition.
pub(crate) struct Partition {
    /// Cancelled when the partition is lost.
    pub(crate) stop: CancellationToken,
    /// Sales seen open go here, so that the effects worker can catch them up.
    pub(crate) seen: mpsc::Sender<Seen>,
}

impl Partition {
    /// Starts the workers of an assignment. They end when its records end, when `stop` is
    /// cancelled, or when the view went elsewhere and the partition has to be read anew.
    pub(crate) fn start(
        shared: &Arc<ProjectorContext>,
        assignment: Assignment,
        stop: CancellationToken,
    ) -> Self {
        let (seen_sender, seen) = mpsc::channel(1_024);
        let (folded_sender, folded) = watch::channel(assignment.start);
        let partition = assignment.partition;
        tracing::info!(
            partition,
            start = assignment.start.get(),
            "partition assigned"
        );

        let traces = Traces::default();
        let effects = effects::EffectsWorker::new(
            Arc::clone(shared),
            partition,
            traces.clone(),
            stop.clone(),
        );
        shared.tasks.spawn(effects.run(folded, seen));

        let fold = fold::FoldWorker::new(
            Arc::clone(shared),
            assignment,
            folded_sender,
            traces,
            stop.clone(),
        );
        let (own_stop, shared) = (stop.clone(), Arc::clone(shared));
        shared.clone().tasks.spawn(async move {
            let end = fold.run().await;
            own_stop.cancel();
            tracing::info!(partition, ?end, "partition ended");
            if let fold::End::Restart(position) = end {
                shared.consumer.restart(partition, position);
            }
        });
        Self {
            stop,
            seen: seen_sender,
        }
    }
}
