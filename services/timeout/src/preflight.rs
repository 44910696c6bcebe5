//! Checks before the first round: the stores answer, and are as the settings say.

use seckill_eventlog::{EventProducer, KafkaSettings, TopicError, Topics, check_topics};
use seckill_orderbook::Orderbook;
use seckill_service::health::{Health, Unmet};
use seckill_stock::{Stock, StockError};
use seckill_stores::wait_for_schema_ids;

/// Waits for each store that does not answer, and names it in `/readyz`.
///
/// # Errors
/// Errors that do not pass by waiting: topics with wrong settings, a Redis that evicts keys.
pub(crate) async fn pass(
    health: &Health,
    orderbook: &Orderbook,
    stock: &Stock,
    producer: &EventProducer,
    (settings, topics, partitions): (&KafkaSettings, &Topics, i32),
) -> Result<(), Unmet> {
    // The topics, and then a warm producer: orders would be claimed before it can emit otherwise.
    let kafka = async {
        let ask = || check_topics(settings, topics, partitions);
        health
            .wait_for("kafka", TopicError::is_lasting, ask)
            .await?;
        let warm_up = || producer.warm_up(settings.delivery_timeout);
        health.wait_for("kafka", |_| false, warm_up).await
    };
    tokio::try_join!(
        health.wait_for("postgresql", |_| false, || orderbook.check_schema()),
        health.wait_for("redis", StockError::is_lasting, || stock.check_server()),
        wait_for_schema_ids(health, settings, topics),
        kafka,
    )?;
    Ok(())
}
