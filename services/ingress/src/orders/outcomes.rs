//! Passes decisions of the projector to the streams that wait for an order. Each process reads the outcomes once. An
//! outcome costs one look-up of its key, however many streams are open.

use seckill_eventlog::{KafkaSettings, OutcomeKey, ReadError, tail};
use tokio_util::sync::CancellationToken;

use crate::orders::streams::Streams;
use crate::reads::Reads;

/// The most sales that may wait to be dropped from the cache.
const BUFFER_SALES: usize = 1_000;

/// Follows the outcome topic until `stop`: wakes the streams of orders, and drops this process' copies of the
/// sales that have changed.
///
/// # Errors
/// When the topic's end cannot be found, or reading breaks off.
pub async fn follow(
    streams: Streams,
    settings: KafkaSettings,
    outcomes_topic: String,
    reads: Reads,
    stop: CancellationToken,
) -> Result<(), ReadError> {
    // An order is read again: now it is decided, or its refund is due. Streams read theirs again every few
    // seconds without a wake-up.
    let pick = move |key: &[u8]| match OutcomeKey::read(key) {
        Some(OutcomeKey::Order(order)) => {
            streams.wake(order);
            None
        }
        Some(OutcomeKey::Sale(voucher)) => Some(voucher),
        None => {
            tracing::warn!("an outcome's key names neither an order nor a sale");
            None
        }
    };
    let mut changed = tail(&settings, &outcomes_topic, BUFFER_SALES, pick).await?;
    while let Some(next) = stop.run_until_cancelled(changed.recv()).await {
        let ended = || ReadError::Thread("it ended".to_owned());
        let voucher = next.unwrap_or_else(|| Err(ended()))?;
        reads.forget(voucher).await;
    }
    Ok(())
}
