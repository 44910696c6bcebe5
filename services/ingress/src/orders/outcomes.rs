//! What the projector decided, told to whoever waits for that very order. Each process follows the
//! outcomes once; an outcome costs one look-up, however many streams are open.

use seckill_domain::{Outcome, VoucherId};
use seckill_eventlog::{KafkaSettings, ReadError, Record, decode_outcome, tail};
use tokio_util::sync::CancellationToken;

use crate::orders::streams::Streams;
use crate::reads::Reads;

/// Outcomes that may wait to be handed out.
const BUFFER_RECORDS: usize = 1_000;

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
    let mut records = tail(&settings, &outcomes_topic, BUFFER_RECORDS).await?;
    while let Some(next) = stop.run_until_cancelled(records.recv()).await {
        let ended = || ReadError::Thread("it ended".to_owned());
        let record = next.unwrap_or_else(|| Err(ended()))?;
        if let Some(changed) = hand_out(&streams, &record) {
            reads.forget(changed).await;
        }
    }
    Ok(())
}

/// Gives the sale that has changed, if one has.
fn hand_out(streams: &Streams, record: &Record) -> Option<VoucherId> {
    match decode_outcome(record.payload.as_deref().unwrap_or_default()) {
        Ok(decoded) => match decoded.outcome {
            Outcome::Order(order) => streams.wake(order.order_id),
            // The order is read again: now its refund is due.
            Outcome::Refund(refund) => streams.wake(refund.order_id),
            Outcome::Sale(_) => return Some(decoded.voucher_id),
        },
        // Streams read their order again every few seconds without a wake-up.
        Err(error) => tracing::warn!(
            partition = record.partition,
            offset = record.offset.get(),
            %error,
            "an outcome cannot be read"
        ),
    }
    None
}
