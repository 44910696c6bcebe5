//! What the log says of one order, and what the fold made of it.

use anyhow::anyhow;
use seckill_domain::{
    Decision, Event, EventBody, Offset, OrderId, OrderStatus, PaymentFate, RefundReason,
    RejectReason, SaleState,
};
use seckill_eventlog::Record;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::decoded::{event_json, trace_id, written_at};
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, table};

/// A record of the order.
#[derive(Debug)]
struct Step {
    record: Record,
    event: Event,
    decided: String,
}

/// The order's sale as the fold has it after the last record that counts.
#[derive(Debug)]
pub(crate) struct History {
    steps: Vec<Step>,
    /// The sale.
    pub(crate) state: SaleState,
}

/// Folds the events of the order's voucher, up to the last that was written at `at` or before.
pub(crate) async fn history(
    log: &Log,
    order_id: OrderId,
    at: Option<OffsetDateTime>,
) -> Result<History, Failure> {
    let topic = &log.topics.events;
    let voucher = order_id.voucher_id();
    let (key, partition) = (voucher.to_string(), log.partition_of(voucher));
    let mut stretches = log.events_extent().await?;
    stretches.retain(|stretch| stretch.partition == partition);
    if stretches.iter().any(|s| s.from > Offset::new(0)) {
        return Err(anyhow!(
            "the log's first records are gone: what was decided cannot be worked out again from the \
             rest; `order show` says what PostgreSQL has"
        )
        .into());
    }
    let stretches = log.between(topic, stretches, None, at).await?;
    let mut history = History {
        steps: Vec::new(),
        state: SaleState::default(),
    };
    let mut records = log.scan(topic, stretches).await?;
    while let Some(record) = records.next().await? {
        // Only this voucher's are decoded: the partition has others', usually far more.
        if record.key.as_deref() != Some(key.as_bytes()) {
            continue;
        }
        // The others are dead letters: the fold has not seen them either.
        if let Ok(event) = record.event(log.partitions) {
            history.fold(record, event, order_id);
        }
    }
    Ok(history)
}

impl History {
    fn fold(&mut self, record: Record, event: Event, order_id: OrderId) {
        let decision = self.state.fold(record.offset, &event);
        if event.body.order_id() == Some(order_id) {
            let decided = match decision {
                Some(decision) => describe(&decision),
                None => format!("no effect: {}", why_nothing(&self.state, &event)),
            };
            self.steps.push(Step {
                record,
                event,
                decided,
            });
        }
    }

    /// Every record of the order, in the order of the log.
    pub(crate) fn report(&self, order_id: OrderId) -> Result<Report, Failure> {
        if self.steps.is_empty() {
            return Err(unknown(order_id));
        }
        let rows: Vec<_> = self.steps.iter().map(cells).collect();
        let partition = self.steps.first().map(|step| step.record.partition);
        let order = self.state.orders.get(&order_id);
        Ok(Report {
            text: table(["OFFSET", "WRITTEN", "EVENT", "TRACE", "DECIDED"], &rows),
            json: json!({
                "order_id": order_id.to_string(),
                "partition": partition,
                "status": order.map(|order| order.status.as_str()),
                "records": self.steps.iter().map(step_json).collect::<Vec<_>>(),
            }),
        })
    }
}

/// The log has no record of the order.
pub(crate) fn unknown(order_id: OrderId) -> Failure {
    Failure::NotFound(format!(
        "the log has no record of order {order_id} up to that moment"
    ))
}

fn cells(step: &Step) -> [String; 5] {
    let trace = step.record.trace();
    [
        step.record.offset.get().to_string(),
        written_at(&step.record).unwrap_or_else(|| "-".to_owned()),
        step.event.body.name().to_owned(),
        trace.map_or_else(|| "-".to_owned(), trace_id),
        step.decided.clone(),
    ]
}

fn step_json(step: &Step) -> Value {
    json!({
        "offset": step.record.offset.get(),
        "written_at": written_at(&step.record),
        "trace_id": step.record.trace().map(trace_id),
        "event": event_json(&step.event),
        "decided": step.decided,
    })
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
        Decision::SaleScheduled { .. }
        | Decision::SaleClosed
        | Decision::StockAdjusted { .. }
        | Decision::SaleReloaded { .. } => "about the sale".to_owned(),
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
        EventBody::SaleScheduled(_)
        | EventBody::StockAdjusted(_)
        | EventBody::SaleClosed
        | EventBody::SaleReloaded(_) => "about the sale".to_owned(),
    }
}

fn too_late(status: Option<OrderStatus>) -> String {
    match status {
        Some(status) => format!("the order is {} already", status.as_str()),
        None => "no such order stands before it in the log".to_owned(),
    }
}
