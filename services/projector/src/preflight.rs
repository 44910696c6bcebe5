//! Checks before the first record: the stores answer, and are as the settings say.

use seckill_eventlog::{KafkaSettings, TopicError, Topics, check_topics, cluster_id};
use seckill_orderbook::Orderbook;
use seckill_service::health::{Health, Unmet};
use seckill_stock::{LogIdentity, Stock, StockError};
use seckill_stores::wait_for_schema_ids;

/// Waits for each store that does not answer, and names it in `/readyz`.
///
/// # Errors
/// Errors that do not pass by waiting: topics with wrong settings, a Redis that evicts keys.
pub(crate) async fn pass(
    health: &Health,
    orderbook: &Orderbook,
    (stock, log): (&Stock, &LogIdentity),
    (settings, topics, partitions): (&KafkaSettings, &Topics, i32),
) -> Result<(), Unmet> {
    tokio::try_join!(
        health.wait_for("postgresql", |_| false, || orderbook.check_schema()),
        health.wait_for("redis", StockError::is_lasting, || stock.check_server()),
        wait_for_schema_ids(health, settings, topics),
        health.wait_for("kafka", TopicError::is_lasting, || {
            check_topics(settings, topics, partitions)
        }),
    )?;
    let learn = async || {
        log.learn(&cluster_id(settings).await?.unwrap_or_default());
        Ok::<_, TopicError>(())
    };
    health.wait_for("kafka", |_| false, learn).await
}
