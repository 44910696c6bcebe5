//! Checks before the first round that the stores answer and have the right settings.

use seckill_eventlog::{EventProducer, KafkaSettings, TopicError, Topics, check_topics};
use seckill_orderbook::Orderbook;
use seckill_service::health::{Health, Unmet};
use seckill_stock::{Stock, StockError};
use seckill_stores::wait_for_schema_ids;

/// Waits for each store that does not answer. `/readyz` names it meanwhile.
///
/// # Errors
/// Only errors that waiting does not solve: topics with wrong settings, a Redis that evicts keys.
pub(crate) async fn pass(
    health: &Health,
    orderbook: &Orderbook,
    stock: &Stock,
    producer: &EventProducer,
    (settings, topics, partitions): (&KafkaSettings, &Topics, i32),
) -> Result<(), Unmet> {
    // Check the topics, and then let the producer connect. Otherwise orders would be claimed before it can send.
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
