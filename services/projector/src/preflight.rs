//! What has to be true before the first record: the stores are there, and are what the settings say.

use std::fmt::Display;
use std::time::Duration;

use seckill_eventlog::{KafkaSettings, TopicError, Topics, check_partitions};
use seckill_orderbook::Orderbook;
use seckill_stock::{Stock, StockError};
use seckill_telemetry::health::Health;
use tokio_util::sync::CancellationToken;

const RETRY: Duration = Duration::from_millis(500);

/// Waits for each store that is away, naming it in `/readyz`; `None` when stopped before that.
///
/// # Errors
/// What waiting does not mend: a wrong number of partitions, a Redis that evicts.
pub(crate) async fn pass(
    stop: &CancellationToken,
    health: &Health,
    orderbook: &Orderbook,
    stock: &Stock,
    kafka: (&KafkaSettings, &Topics, i32),
) -> anyhow::Result<Option<()>> {
    loop {
        let (settings, topics, partitions) = kafka;
        let postgresql = orderbook.ping().await;
        let redis = stock.check_server().await;
        let topics = check_partitions(settings, topics, partitions).await;
        if let Err(error @ StockError::Misconfigured(_)) = redis {
            return Err(error.into());
        }
        if let Err(error @ TopicError::Partitions { .. }) = topics {
            return Err(error.into());
        }
        let there = [
            note(health, "postgresql", &postgresql),
            note(health, "redis", &redis),
            note(health, "kafka", &topics),
        ];
        if there == [true; 3] {
            return Ok(Some(()));
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = stop.cancelled() => return Ok(None),
        }
    }
}

fn note<E: Display>(health: &Health, name: &'static str, result: &Result<(), E>) -> bool {
    health.check(name, result);
    result.is_ok()
}
