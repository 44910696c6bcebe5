//! The fold of the log into the tables: one transaction a batch.

use std::collections::BTreeMap;

use seckill_domain::{
    Decision, Epoch, Event, EventBody, EventId, LogBatch, Offset, OrderId, SaleState, VoucherId,
};
use uuid::Uuid;

use crate::books::expiry;
use crate::database::connect::Orderbook;
use crate::database::error::ApplyError;
use crate::fold::positions::compare_and_set;
use crate::fold::skip_decisions::SkipDecisions;
use crate::fold::skips::insert_malformed;
use crate::fold::working_set::{self, WorkingSet};
use crate::fold::write;

/// What a batch changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The events that changed something, in the order of the log, and what they changed. For
    /// counters and logs: effects come from the rows.
    pub decisions: Vec<(Offset, Decision)>,
}

/// What has to be written once a batch is folded. Orders and sales are named, and written in the
/// state in which the batch leaves them.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Orders that the tables don't have. They are inserted as the batch leaves them.
    pub(crate) new_orders: Vec<OrderId>,
    /// Orders that are no longer unpaid. New ones among them are not in the table when these are
    /// updated, so the update does not concern them.
    pub(crate) closed_orders: Vec<OrderId>,
    /// Sales, and whether an event says that Redis has had the sale.
    pub(crate) sales: BTreeMap<VoucherId, bool>,
    /// The highest voucher id among new sales.
    pub(crate) highest_scheduled: Option<VoucherId>,
    pub(crate) adjustments: Vec<Adjustment>,
    pub(crate) reloads: Vec<Reload>,
}

/// A row of `stock_adjustments`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adjustment {
    /// The event that asked for it.
    pub event_id: EventId,
    /// The sale.
    pub voucher_id: VoucherId,
    /// Units, negative for a shrink.
    pub delta: i64,
    /// Whether the stock changed.
    pub accepted: bool,
    /// The operator's reason.
    pub reason: String,
    /// Where it was decided.
    pub offset: Offset,
}

/// A row of `sale_reloads`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// The sale.
    pub voucher_id: VoucherId,
    /// The claim it belongs to.
    pub nonce: Uuid,
    /// The epoch asked for.
    pub epoch: Epoch,
    /// Whether it became the sale's epoch.
    pub accepted: bool,
    /// Where it was decided.
    pub offset: Offset,
}

/// A fold's transaction finds rows by their keys. A table that was filled a moment ago has no statistics,
/// and a plan made while it was small is kept: a scan of all rows then looks cheaper than finding those of
/// a batch, and every batch costs what the table has grown to.
pub(crate) const BEGIN_FOLD: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL enable_seqscan = off; \
     SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

impl Orderbook {
    /// Folds `batch`, which begins at `from`, but for what `skips` says is passed over. Position, rows and
    /// the list of what was skipped change together or not at all.
    ///
    /// # Errors
    /// [`ApplyError`]: its kinds say what the caller has to do.
    pub async fn apply(
        &self,
        topic: &str,
        partition: i32,
        from: Offset,
        batch: &LogBatch,
        skips: &SkipDecisions,
    ) -> Result<Applied, ApplyError> {
        let events = skips.take_from(batch)?;
        debug_assert!(events.is_sorted_by(|a, b| a.0 < b.0));
        debug_assert!(events.iter().all(|(at, _)| (from..batch.to).contains(at)));
        events.iter().try_for_each(check_order_id)?;
        let mut transaction = self.pool.begin_with(BEGIN_FOLD).await?;
        compare_and_set(&mut transaction, topic, partition, from, batch, skips).await?;
        let mut states = working_set::load(&mut transaction, &events).await?;
        let mut changes = Changes::default();
        let decisions = fold(&mut states, &mut changes, &events);
        write::all(&mut transaction, partition, &states, &changes).await?;
        insert_malformed(&mut transaction, topic, partition, &batch.malformed).await?;
        expiry::note_late(&mut transaction, &batch.late).await?;
        transaction.commit().await.map_err(ApplyError::of_commit)?;
        Ok(Applied { decisions })
    }
}

/// Rows are found by the voucher in their order id: an order under another voucher's key would be
/// seen by neither of them.
pub(crate) fn check_order_id((offset, event): &(Offset, Event)) -> Result<(), ApplyError> {
    match event.body.order_id() {
        Some(order_id) if order_id.voucher_id() != event.voucher_id => Err(ApplyError::Refused {
            sqlstate: ApplyError::INVALID_VALUE.to_owned(),
            message: format!(
                "at offset {}: order {order_id} is not of voucher {}",
                offset.get(),
                event.voucher_id
            ),
        }),
        _ => Ok(()),
    }
}

fn fold(
    states: &mut WorkingSet,
    changes: &mut Changes,
    events: &[(Offset, Event)],
) -> Vec<(Offset, Decision)> {
    let mut decisions = Vec::new();
    for (offset, event) in events {
        if let Some(decision) = fold_one(states, changes, *offset, event) {
            decisions.push((*offset, decision));
        }
    }
    decisions
}

/// The whole fold, live and in a rebuild: one event against the state that all earlier events of its
/// partition left.
pub(crate) fn fold_one(
    states: &mut WorkingSet,
    changes: &mut Changes,
    offset: Offset,
    event: &Event,
) -> Option<Decision> {
    let state: &mut SaleState = states.entry(event.voucher_id).or_default();
    let decision = state.fold(offset, event)?;
    changes.note(offset, event, &decision);
    Some(decision)
}

impl Changes {
    fn note(&mut self, offset: Offset, event: &Event, decision: &Decision) {
        let voucher_id = event.voucher_id;
        match decision {
            Decision::SaleScheduled { .. } => {
                self.highest_scheduled = self.highest_scheduled.max(Some(voucher_id));
                self.sale(voucher_id, false);
            }
            Decision::SaleClosed => self.sale(voucher_id, false),
            Decision::StockAdjusted { delta, accepted } => {
                if *accepted {
                    self.sale(voucher_id, false);
                }
                self.adjustments.push(Adjustment {
                    event_id: event.event_id,
                    voucher_id,
                    delta: *delta,
                    accepted: *accepted,
                    reason: reason_of(&event.body),
                    offset,
                });
            }
            Decision::SaleReloaded {
                nonce,
                epoch,
                accepted,
            } => {
                if *accepted {
                    self.sale(voucher_id, true);
                }
                self.reloads.push(Reload {
                    voucher_id,
                    nonce: *nonce,
                    epoch: *epoch,
                    accepted: *accepted,
                    offset,
                });
            }
            Decision::OrderReserved { order } => {
                self.sale(voucher_id, true);
                self.new_orders.push(order.order_id);
            }
            Decision::OrderRejected { order } => self.new_orders.push(order.order_id),
            Decision::OrderPaid { order_id, .. }
            | Decision::OrderExpired { order_id }
            | Decision::OrderCancelled { order_id } => {
                self.sale(voucher_id, true);
                self.closed_orders.push(*order_id);
            }
            // It is in the state's list of refunds.
            Decision::RefundDue { .. } => {}
        }
    }

    /// `was_in_redis` is needed after a rebuild, so that a sale that Redis has had is not taken for a new
    /// one. The flag that is set before the first load is not in the log, but events that follow the load are.
    fn sale(&mut self, voucher_id: VoucherId, was_in_redis: bool) {
        *self.sales.entry(voucher_id).or_default() |= was_in_redis;
    }
}

fn reason_of(body: &EventBody) -> String {
    match body {
        EventBody::StockAdjusted(e) => e.reason.to_string(),
        _ => String::new(),
    }
}
