//! The records of one order in the log, and what the fold decided about each.

use seckill_domain::{
    Decision, Event, EventBody, Offset, OrderId, OrderStatus, PaymentFate, RefundReason,
    RejectReason, SaleState, partition_of,
};

use crate::kafka::settings::KafkaSettings;
use crate::read::reader::{OffsetRange, ReadError};
use crate::read::scan::{event_offset_ranges, first_since, scan};
use crate::wire::record::Record;

/// The most records that wait for the fold.
const BUFFER_RECORDS: usize = 1_000;

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The topic cannot be read.
    #[error("the event topic cannot be read")]
    Read(#[from] ReadError),
    /// The beginning of the log is missing, so that the decisions cannot be computed.
    #[error(
        "the log's first records are gone: what was decided cannot be worked out again from the rest; \
         PostgreSQL has what it came to"
    )]
    Truncated,
}

/// A record of the order.
#[derive(Debug)]
pub struct HistoryStep {
    /// As it stands in the log.
    pub record: Record,
    /// What it says.
    pub event: Event,
    /// What the fold decided, for people.
    pub decided: String,
}

/// An order's records in the order of the log, and its sale as the fold has it after them.
#[derive(Debug, Default)]
pub struct OrderHistory {
    /// Every record of the order.
    pub steps: Vec<HistoryStep>,
    /// The sale.
    pub state: SaleState,
}

impl OrderHistory {
    /// Folds the events of the order's voucher in `topic`, which has `partitions` partitions, up to
    /// the last that was written before `until_ms`, milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`HistoryError`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn read(
        settings: &KafkaSettings,
        topic: &str,
        partitions: i32,
        order_id: OrderId,
        until_ms: Option<i64>,
    ) -> Result<Self, HistoryError> {
        let key = order_id.voucher_id().to_string();
        let partition = partition_of(key.as_bytes(), partitions);
        let range = range(settings, topic, partitions, partition, until_ms).await?;
        let mut records = scan(settings, topic, range, BUFFER_RECORDS).await?;
        let mut history = Self::default();
        while let Some(record) = records.next().await? {
            // Only the records of this voucher are decoded. The partition usually has far more of others.
            if record.key.as_deref() != Some(key.as_bytes()) {
                continue;
            }
            // Records that cannot be decoded are dead letters: the fold skips them too.
            if let Ok(event) = record.event(partitions) {
                history.fold(record, event, order_id);
            }
        }
        Ok(history)
    }

    fn fold(&mut self, record: Record, event: Event, order_id: OrderId) {
        let decision = self.state.fold(record.offset, &event);
        if event.body.order_id() == Some(order_id) {
            let decided = match decision {
                Some(decision) => describe(&decision),
                None => format!("no effect: {}", why_nothing(&self.state, &event)),
            };
            self.steps.push(HistoryStep {
                record,
                event,
                decided,
            });
        }
    }
}

async fn range(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    partition: i32,
    until_ms: Option<i64>,
) -> Result<Vec<OffsetRange>, HistoryError> {
    let held = event_offset_ranges(settings, topic, partitions).await?;
    let mut held: Vec<_> = held
        .into_iter()
        .filter(|range| range.partition == partition)
        .collect();
    if held.iter().any(|range| range.from > Offset::new(0)) {
        return Err(HistoryError::Truncated);
    }
    if let Some(until_ms) = until_ms {
        for (_, end) in first_since(settings, topic, until_ms)
            .await?
            .into_iter()
            .filter(|(number, _)| *number == partition)
        {
            for range in &mut held {
                range.to = range.to.min(end);
            }
        }
    }
    Ok(held)
}

fn describe(decision: &Decision) -> String {
    match decision {
        Decision::OrderReserved { order } => {
            format!("reserved: {} free units taken", order.quantity)
        }
        Decision::OrderRejected { order } => {
            let reason = order.rejected.map_or("for no reason", why_rejected);
            format!("rejected: {reason}")
        }
        Decision::OrderPaid { payment_id, .. } => format!("paid by {payment_id}"),
        Decision::OrderExpired { .. } => "expired: its units are free again".to_owned(),
        Decision::OrderCancelled { .. } => "cancelled: its units are free again".to_owned(),
        Decision::RefundDue { reason, .. } => format!("refund due: {}", why_refunded(*reason)),
        _ => "decided".to_owned(),
    }
}

const fn why_rejected(reason: RejectReason) -> &'static str {
    match reason {
        RejectReason::UnknownSale => "no such sale stands before it in the log",
        RejectReason::AlreadyOrdered => "the user has a live order of this sale",
        RejectReason::OutOfStock => "fewer units are free than it takes",
        RejectReason::StaleEpoch => "granted before Redis was loaded again",
    }
}

const fn why_refunded(reason: RefundReason) -> &'static str {
    match reason {
        RefundReason::UnknownOrder => "no such order stands before it in the log",
        RefundReason::WrongAmount => "the amount is not the order's",
        RefundReason::AlreadyPaid => "another payment came first",
        RefundReason::OrderExpired => "the expiry came first",
        RefundReason::OrderCancelled => "the cancellation came first",
        RefundReason::OrderRejected => "the reservation never stood",
    }
}

/// Why an event changed nothing; `state` is as it found it.
fn why_nothing(state: &SaleState, event: &Event) -> String {
    let order = event.body.order_id().and_then(|id| state.orders.get(&id));
    match &event.body {
        EventBody::SeckillReserved(_) => {
            "this order id was decided before: a repetition".to_owned()
        }
        EventBody::OrderPaid(e) => match state.payments.get(&e.payment_id) {
            Some(PaymentFate::RefundDue) => "this payment is due for a refund already",
            _ => "this payment was honoured before: a repetition",
        }
        .to_owned(),
        EventBody::OrderCancelled(e) => match order {
            Some(order) if order.user_id != e.user_id => {
                format!("user {} is not its buyer", e.user_id)
            }
            other => too_late(other.map(|order| order.status)),
        },
        EventBody::OrderExpired(_) => too_late(order.map(|order| order.status)),
        _ => "nothing was to be changed".to_owned(),
    }
}

fn too_late(status: Option<OrderStatus>) -> String {
    match status {
        Some(status) => format!("the order is {} already", status.as_str()),
        None => "no such order stands before it in the log".to_owned(),
    }
}
