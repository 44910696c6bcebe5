//! One script call: it sends a batch of requests to Redis, the granted ones to Kafka, and the answers to their
//! buyers.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use seckill_domain::VoucherId;
use seckill_service::clock::BootInstant;
use seckill_service::traces::{self, Kind, Span};
use seckill_stock::{
    Ack, Attempt, PendingReservation, ReserveOutcome, ReserveReply, ReserveRequest, SoldOutLease,
    StockError,
};
use tokio::sync::OwnedSemaphorePermit;

use super::batcher::VoucherLane;
use super::promise::{Evidence, what_to_say};
use super::publisher::Sent;
use super::request::{Request, Waiter};
use super::sold_out::read_holders;
use super::{PlaceError, Placed, PlacedState};

/// The pause before a script that failed at once is sent again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long acks wait for a call with which they can be sent. Where many sales share the orders, a call for each ack
/// would cost as much as its order's. Mostly none is needed: the settle of an order takes its outbox entry away, too.
pub(super) const ACK_FLUSH_AFTER: Duration = Duration::from_secs(1);

/// An order that Redis has granted and whose event is on its way.
struct Granted {
    pending: PendingReservation,
    sent: Sent,
    waiter: Waiter,
}

impl Granted {
    fn answer(&mut self, state: PlacedState) {
        self.waiter.answer(Ok(placed(&self.pending, state)));
    }
}

fn placed(order: &PendingReservation, state: PlacedState) -> Placed {
    Placed {
        order_id: order.order_id,
        pay_by: order.pay_by,
        state,
    }
}

/// Asks for a batch, publishes what is granted and answers each buyer.
pub(super) async fn run(lane: Arc<VoucherLane>, batch: Vec<Request>, slot: OwnedSemaphorePermit) {
    let shared = &lane.shared;
    let deadline = shared.options.promise_deadline;
    let (asks, waiters, waited) = split(batch, deadline / 2);
    if asks.is_empty() {
        return;
    }
    shared
        .meters
        .batch_sent(asks.len(), waited, &shared.in_flight);
    let acks = lane.acks.take();
    let first_sent_at = BootInstant::now();
    let asking = ask_again(first_sent_at, deadline, |attempt| {
        let (voucher, asks, acks) = (lane.voucher, &asks, &acks);
        async move { shared.stock.reserve(voucher, asks, acks, attempt).await }
    });
    let reply = tokio::time::timeout(deadline.saturating_sub(waited), asking).await;
    let reply = reply.unwrap_or(Err(StockError::Timeout));
    let took = first_sent_at.elapsed();
    shared.meters.script_seconds.record(took);
    lane.queue.backlog.called(took);
    drop(slot);
    trace_call(lane.voucher, &asks, &waiters, took, reply.as_ref().err());
    fail::fail_point!("ingress.after-lua");

    match reply {
        Ok(ReserveReply::Decided {
            outcomes,
            promise_deadline,
            sold_out,
            ..
        }) => {
            lane.queue.set_served();
            if let Some(lease) = sold_out {
                remember_sold_out(&lane, lease, first_sent_at);
            }
            let granted = publish_granted(&lane, outcomes, waiters);
            fail::fail_point!("ingress.after-produce");
            let deadline = shared.promise_deadline.of_sale(promise_deadline);
            see_through(&lane, granted, first_sent_at, deadline).await;
        }
        Ok(ReserveReply::NotServed) => refuse_all(waiters, PlaceError::NotServed),
        Err(error) => {
            log_failure(lane.voucher, &error);
            refuse_all(waiters, PlaceError::Unavailable);
        }
    }
    shared.meters.batch_done(&shared.in_flight);
}

fn remember_sold_out(lane: &VoucherLane, lease: SoldOutLease, sent: BootInstant) {
    let (shared, queue) = (&lane.shared, &lane.queue);
    let (sent, now) = (shared.time_of(sent), shared.now());
    if queue.sold_out.learn(&lease, sent, now) {
        let (queue, version) = (Arc::clone(queue), lease.holders);
        shared.spawn(read_holders(
            Arc::clone(shared),
            lane.voucher,
            queue,
            version,
        ));
    }
}

/// The span of a call in the trace of each request that it served and somebody records, with links to the
/// others.
fn trace_call(
    voucher: VoucherId,
    asks: &[ReserveRequest],
    waiters: &[Waiter],
    took: Duration,
    error: Option<&StockError>,
) {
    let contexts = asks.iter().map(|ask| ask.traceparent);
    let wanted = contexts.zip(waiters).filter_map(|(context, waiter)| {
        let context = context.filter(|context| traces::wants(*context))?;
        Some(waiter.span(context))
    });
    let traced: Vec<_> = wanted.collect();
    for request in &traced {
        let (context, began) = (traces::child(*request), SystemTime::now() - took);
        let span = Span::new("reserve", Kind::Client, context, Some(*request), began)
            .with("db.system.name", "redis")
            .with("db.operation.batch.size", waiters.len() as i64)
            .with("seckill.voucher_id", voucher.get())
            .linked(traced.iter().copied());
        match error {
            Some(error) => span.failed(error.to_string()).end(),
            None => span.end(),
        }
    }
}

/// Calls Redis until it answers or `deadline` has passed since the first call. After a call without an answer
/// the result is unknown: it is repeated with the same ids, and the script gives the same result.
pub(super) async fn ask_again<T, F>(
    first_sent_at: BootInstant,
    deadline: Duration,
    mut ask: impl FnMut(Attempt) -> F,
) -> Result<T, StockError>
where
    F: Future<Output = Result<T, StockError>>,
{
    let mut attempt = Attempt::First;
    loop {
        match ask(attempt).await {
            Err(error @ (StockError::Timeout | StockError::Unavailable(_)))
                if first_sent_at.elapsed() + RETRY_PAUSE < deadline =>
            {
                tokio::time::sleep(RETRY_PAUSE).await;
                fail::fail_point!("ingress.before-asking-again");
                // The process may have been stopped meanwhile, and the sale may have been loaded again.
                if first_sent_at.elapsed() >= deadline {
                    return Err(error);
                }
                attempt = Attempt::Again;
            }
            answer => return answer,
        }
    }
}

/// Logs that Redis gave no answer until the deadline.
pub(super) fn log_failure(voucher: VoucherId, error: &StockError) {
    let cause = error.source().map(ToString::to_string);
    tracing::warn!(%voucher, %error, cause, "no answer from Redis; what it took is published later");
}

/// The requests for the script, and how long the first of them has waited. A request that has waited for longer
/// than `patience` is refused, and no stock is taken: if Redis delays calls, the calls behind them wait too, and
/// a buyer should not wait for both.
fn split(batch: Vec<Request>, patience: Duration) -> (Vec<ReserveRequest>, Vec<Waiter>, Duration) {
    let mut asks = Vec::with_capacity(batch.len());
    let mut waiters = Vec::with_capacity(batch.len());
    let mut longest = Duration::ZERO;
    for mut request in batch {
        let waited = request.queued_at.elapsed();
        if waited > patience {
            request.waiter.answer(Err(PlaceError::Overloaded));
        } else {
            longest = longest.max(waited);
            asks.push(request.ask);
            waiters.push(request.waiter);
        }
    }
    (asks, waiters, longest)
}

fn refuse_all(waiters: Vec<Waiter>, error: PlaceError) {
    for mut waiter in waiters {
        waiter.answer(Err(error));
    }
}

/// Passes the events of granted orders to the producer, and answers all other requests.
fn publish_granted(
    lane: &VoucherLane,
    outcomes: Vec<ReserveOutcome>,
    waiters: Vec<Waiter>,
) -> Vec<Granted> {
    let deadline = lane.shared.options.promise_deadline;
    let mut granted = Vec::with_capacity(waiters.len());
    for (outcome, mut waiter) in outcomes.into_iter().zip(waiters) {
        let answer = match outcome {
            ReserveOutcome::Granted(pending) => {
                granted.extend(publish(lane, pending, waiter));
                continue;
            }
            ReserveOutcome::Repeated {
                order_id,
                settled,
                released,
                pay_by,
            } => Ok(Placed {
                order_id,
                pay_by,
                state: what_to_say(Evidence::Repeated { settled, released }, deadline),
            }),
            ReserveOutcome::Superseded => Err(PlaceError::Unavailable),
            ReserveOutcome::Refused(refusal) => Err(refusal.into()),
        };
        waiter.answer(answer);
    }
    granted
}

/// Sends one order's event. If it cannot be sent the order is *pending*, never undone: its event
/// is in the outbox, and the relay publishes it.
fn publish(lane: &VoucherLane, pending: PendingReservation, mut waiter: Waiter) -> Option<Granted> {
    let event = pending.to_event(lane.voucher);
    let context = pending.traceparent;
    let traced = context.filter(|context| traces::wants(*context));
    let parent = traced.map(|context| waiter.span(context));
    match lane.shared.publisher.send(&event, context, parent) {
        Ok(sent) => Some(Granted {
            pending,
            sent,
            waiter,
        }),
        Err(error) => {
            let order_id = pending.order_id;
            tracing::warn!(%order_id, %error, "not sent; the relay will publish it");
            waiter.answer(Ok(placed(&pending, PlacedState::Pending)));
            None
        }
    }
}

/// Answers each buyer at the ack or at the promise deadline, whichever is first. It returns when the result of
/// the last event is known.
///
/// The events have one key and so one partition: they are acknowledged in order, and waiting for
/// them one after the other costs one wake-up for all that came in one response.
async fn see_through(
    lane: &Arc<VoucherLane>,
    granted: Vec<Granted>,
    first_sent_at: BootInstant,
    deadline: Duration,
) {
    let publisher = &lane.shared.publisher;
    let patience = tokio::time::sleep(deadline.saturating_sub(first_sent_at.elapsed()));
    tokio::pin!(patience);
    let mut waiting = granted.into_iter();
    while let Some(mut order) = waiting.next() {
        let acked = tokio::select! {
            biased;
            acked = publisher.acknowledged(&mut order.sent) => acked,
            () = &mut patience, if !patience.is_elapsed() => {
                order.answer(PlacedState::Pending);
                for late in waiting.as_mut_slice() {
                    late.answer(PlacedState::Pending);
                }
                publisher.acknowledged(&mut order.sent).await
            }
        };
        let evidence = match acked {
            Ok(()) => {
                fail::fail_point!("ingress.after-ack");
                clear_later(lane, order.pending.ack());
                let after = first_sent_at.elapsed();
                Evidence::Acknowledged { after }
            }
            Err(error) => {
                let order_id = order.pending.order_id;
                tracing::warn!(%order_id, %error, "not acknowledged; the relay will publish it");
                Evidence::NotAcknowledged
            }
        };
        order.answer(what_to_say(evidence, deadline));
    }
}

/// Leaves an ack to the next script call, or to a call of its own if none comes soon.
fn clear_later(lane: &Arc<VoucherLane>, ack: Ack) {
    if lane.acks.push(ack) {
        lane.shared.spawn(flush(Arc::clone(lane)));
    }
}

async fn flush(lane: Arc<VoucherLane>) {
    let shared = &lane.shared;
    // Without the wait when the process stops, because no more calls come.
    let stopping = shared.stop.cancelled();
    let _ = tokio::time::timeout(ACK_FLUSH_AFTER, stopping).await;
    lane.acks.begin_flush();
    loop {
        let acks = lane.acks.take();
        if acks.is_empty() {
            return;
        }
        if let Err(error) = shared.stock.clear(lane.voucher, &acks).await {
            tracing::debug!(voucher = %lane.voucher, %error, "entries left to the relay");
        }
    }
}
