//! Taking units off a sale: in Redis first, so that nobody can be sold them meanwhile, then in the
//! log, where it is decided.

use std::sync::Arc;

use seckill_domain::{Event, EventBody, EventId, Reason, TraceParent, VoucherId};
use seckill_service::clock::BootInstant;
use seckill_stock::{Ack, PendingShrink, ShrinkReply};
use tokio::task::JoinHandle;

use super::call::{ask_again, log_failure};
use super::publisher::Sent;
use super::{ReservationsContext, ShrinkError};

/// An operator's request.
pub(super) struct Shrink {
    pub(super) voucher: VoucherId,
    pub(super) event_id: EventId,
    pub(super) units: u32,
    pub(super) reason: Reason,
    pub(super) traceparent: TraceParent,
}

/// Carries a shrink out, also when the caller hangs up.
pub(super) async fn run(
    shared: &Arc<ReservationsContext>,
    shrink: Shrink,
) -> Result<(), ShrinkError> {
    let started_at = BootInstant::now();
    let taking = shared.spawn(take_and_send(Arc::clone(shared), shrink, started_at));
    // A task that panicked has logged it; whether the units were taken is unknown.
    let ack = taking.await.map_err(|_| ShrinkError::Unavailable)??;
    let deadline = shared.options.promise_deadline;
    let patience = deadline.saturating_sub(started_at.elapsed());
    match tokio::time::timeout(patience, ack).await {
        Ok(Ok(true)) => Ok(()),
        _ => Err(ShrinkError::Unacknowledged),
    }
}

/// Takes the units and sends the event; gives the task that waits for the ack.
async fn take_and_send(
    shared: Arc<ReservationsContext>,
    shrink: Shrink,
    started_at: BootInstant,
) -> Result<JoinHandle<bool>, ShrinkError> {
    let (voucher, event_id) = (shrink.voucher, shrink.event_id);
    let taken = take(&shared, &shrink, started_at).await?;
    fail::fail_point!("ingress.shrink.after-lua");
    let ack = taken.ack();
    let event = with_reason(taken.to_event(voucher), shrink.reason);
    match shared.publisher.send_for(shrink.traceparent, &event) {
        Ok(sent) => {
            let waiting = wait_and_clear(Arc::clone(&shared), voucher, ack, sent);
            Ok(shared.spawn(waiting))
        }
        Err(error) => {
            tracing::warn!(%event_id, %error, "not sent; the relay will publish it");
            Err(ShrinkError::Unacknowledged)
        }
    }
}

async fn take(
    shared: &ReservationsContext,
    shrink: &Shrink,
    started_at: BootInstant,
) -> Result<PendingShrink, ShrinkError> {
    let reply = ask_again(started_at, shared.options.promise_deadline, |_| {
        let units = i64::from(shrink.units);
        shared.stock.shrink(shrink.voucher, shrink.event_id, units)
    })
    .await;
    match reply {
        Ok(ShrinkReply::Taken(taken)) => Ok(taken),
        Ok(ShrinkReply::Refused { free }) => Err(ShrinkError::Committed { free }),
        Ok(ShrinkReply::NotServed) => Err(ShrinkError::NotServed),
        Err(error) => {
            log_failure(shrink.voucher, &error);
            Err(ShrinkError::Unavailable)
        }
    }
}

/// Redis keeps no free text: only this first sending carries the operator's words.
fn with_reason(mut event: Event, reason: Reason) -> Event {
    if let EventBody::StockAdjusted(adjustment) = &mut event.body {
        adjustment.reason = reason;
    }
    event
}

/// Waits for the ack and has the outbox entry cleared; whether it came.
async fn wait_and_clear(
    shared: Arc<ReservationsContext>,
    voucher: VoucherId,
    ack: Ack,
    mut sent: Sent,
) -> bool {
    if let Err(error) = shared.publisher.acknowledged(&mut sent).await {
        tracing::warn!(%voucher, event_id = %ack.id, %error, "not acknowledged; the relay will publish it");
        return false;
    }
    let clearing = Arc::clone(&shared);
    shared.spawn(async move {
        if let Err(error) = clearing.stock.clear(voucher, &[ack]).await {
            tracing::debug!(%voucher, %error, "an entry is left to the relay");
        }
    });
    true
}
