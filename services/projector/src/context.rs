//! What all workers of a projector share.

use std::time::{SystemTime, UNIX_EPOCH};

use seckill_domain::{Offset, Timestamp};
use seckill_ephemeral::SharedCache;
use seckill_eventlog::{ConsumerHandle, EventProducer, KafkaSettings, RecordReader, Topics};
use seckill_orderbook::{FoldPosition, Orderbook, OrderbookError, View};
use seckill_service::health::Health;
use seckill_stock::Stock;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::standing::Standing;

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
