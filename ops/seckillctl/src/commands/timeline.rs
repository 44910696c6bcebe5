//! The history of one order in the log, for operators.

use seckill_domain::{OrderId, TraceParent};
use seckill_eventlog::{HistoryError, HistoryStep, OrderHistory, event_json, written_at};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, table};

/// Folds the events of the order's voucher, up to the last that was written at `at` or before.
pub(crate) async fn history(
    log: &Log,
    order_id: OrderId,
    at: Option<OffsetDateTime>,
) -> Result<OrderHistory, Failure> {
    // Kafka's timestamps are milliseconds. Records of the millisecond that contains `at` are included.
    let until_ms = at.map(|at| at.unix_timestamp_nanos().div_euclid(1_000_000) + 1);
    let until_ms = until_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).max(0));
    let topic = &log.topics.events;
    let read = OrderHistory::read(&log.client, topic, log.partitions, order_id, until_ms).await;
    Ok(read.map_err(|error| match error {
        HistoryError::Read(_) => anyhow::Error::new(error).context(log.cannot_read(topic)),
        other => other.into(),
    })?)
}

/// Every record of the order, in the order of the log.
pub(crate) fn report(history: &OrderHistory, order_id: OrderId) -> Result<Report, Failure> {
    let Some(first) = history.steps.first() else {
        return Err(unknown(order_id));
    };
    let rows: Vec<_> = history.steps.iter().map(cells).collect();
    let order = history.state.orders.get(&order_id);
    Ok(Report {
        text: table(["OFFSET", "WRITTEN", "EVENT", "TRACE", "DECIDED"], &rows),
        json: json!({
            "order_id": order_id.to_string(),
            "partition": first.record.partition,
            "status": order.map(|order| order.status.as_str()),
            "records": history.steps.iter().map(step_json).collect::<Vec<_>>(),
        }),
    })
}

/// The log has no record of the order.
pub(crate) fn unknown(order_id: OrderId) -> Failure {
    Failure::NotFound(format!(
        "the log has no record of order {order_id} up to that moment"
    ))
}

fn cells(step: &HistoryStep) -> [String; 5] {
    let trace = step.record.trace();
    [
        step.record.offset.get().to_string(),
        written_at(&step.record).unwrap_or_else(|| "-".to_owned()),
        step.event.body.name().to_owned(),
        trace.map_or_else(|| "-".to_owned(), |t| t.trace_id().to_owned()),
        step.decided.clone(),
    ]
}

fn step_json(step: &HistoryStep) -> Value {
    json!({
        "offset": step.record.offset.get(),
        "written_at": written_at(&step.record),
        "trace_id": step.record.trace().as_ref().map(TraceParent::trace_id),
        "event": event_json(&step.event),
        "decided": step.decided,
    })
}
