//! Publishes events again that were granted by any process and never acknowledged.
//!
//! If an entry is older than the producers' delivery timeout, its producer has given it up, or its process is gone.
//! It is published unchanged. If the first one is in the log too, the fold ignores the second one. While orders are
//! refused because of Kafka, the relay is also what tries Kafka again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::error::Error;
use std::time::{Duration, Instant};

use seckill_domain::VoucherId;
use seckill_eventlog::{DeliveryError, SendError};
use seckill_orderbook::{ServedSale, Turns};
use seckill_stock::{Ack, MAX_ITEMS, OutboxCursor, PendingEvent, StockError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::call::ACK_FLUSH_AFTER;
use super::{RelayOptions, Reservations, ReservationsContext};

const ROUND_EVERY: Duration = Duration::from_secs(1);
/// Sales of a kind that are checked in one round.
const SALES_PER_ROUND: usize = 1_000;
/// A sale that accepts no orders is checked once in so many rounds: it gets no new pending events.
const AT_REST: u64 = 10;
/// Beyond the delivery timeout: Redis' clock stamped the entry, and the ack takes a moment to come and to be flushed.
const MARGIN: Duration = ACK_FLUSH_AFTER.saturating_add(Duration::from_secs(1));

#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("the outbox cannot be read or cleared")]
    Stock(#[from] StockError),
    #[error("an event cannot be sent again")]
    Send(#[from] SendError),
    #[error("an event that was sent again is not acknowledged")]
    Delivery(#[from] DeliveryError),
}

impl RelayError {
    /// Whether Redis or Kafka is unavailable, so that other sales would fail too.
    const fn concerns_all_sales(&self) -> bool {
        matches!(
            self,
            Self::Stock(StockError::Timeout | StockError::Unavailable(_))
                | Self::Send(SendError::QueueFull | SendError::Fatal)
                | Self::Delivery(DeliveryError::TimedOut | DeliveryError::Fatal)
        )
    }
}

impl Reservations {
    /// Publishes, once a second, what waits in the outbox of each sale for longer than the delivery
    /// timeout, until `stop`.
    pub async fn relay(self, options: RelayOptions, stop: CancellationToken) {
        let mut relay = Relay {
            shared: &self.shared,
            options,
            known: Vec::new(),
            unpublished: BTreeMap::new(),
            turns: Turns::new(SALES_PER_ROUND, AT_REST),
        };
        let mut ticks = tokio::time::interval(ROUND_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let rounds = async {
            loop {
                ticks.tick().await;
                relay.round().await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }
}

struct Relay<'a> {
    shared: &'a ReservationsContext,
    options: RelayOptions,
    /// The sales that Redis served when PostgreSQL last answered.
    known: Vec<ServedSale>,
    /// The sales whose pending events Kafka did not take, and since when.
    unpublished: BTreeMap<VoucherId, Instant>,
    turns: Turns,
}

impl Relay<'_> {
    /// The sales whose turn it is. What fails is tried again in the next round.
    async fn round(&mut self) {
        self.refresh().await;
        let due = self.due();
        self.relay(due).await;
        let age = |since: &Instant| self.give_up_after() + since.elapsed();
        let oldest = self.unpublished.values().map(age).max();
        let oldest = oldest.unwrap_or_default().as_secs_f64();
        self.shared.meters.relay_age_seconds.set(oldest);
    }

    async fn relay(&mut self, vouchers: BTreeSet<VoucherId>) {
        for voucher in vouchers {
            let relayed = self.relay_sale(voucher).await;
            match &relayed {
                Ok(()) => drop(self.unpublished.remove(&voucher)),
                // Its pending events are not known.
                Err(RelayError::Stock(_)) => {}
                Err(RelayError::Send(_) | RelayError::Delivery(_)) => {
                    self.unpublished.entry(voucher).or_insert_with(Instant::now);
                }
            }
            if let Err(error) = relayed {
                let cause = error.source().map(ToString::to_string);
                tracing::warn!(%voucher, %error, cause, "the relay tries again");
                let of_redis = matches!(error, RelayError::Stock(_));
                let others_fare_better = of_redis && self.shared.pages.is_divided().await;
                if error.concerns_all_sales() && !others_fare_better {
                    return;
                }
            }
        }
    }

    async fn refresh(&mut self) {
        let partitions: Vec<i32> = (0..self.options.partitions).collect();
        match self.options.orderbook.sales_to_serve(&partitions).await {
            Ok(sales) => self.known = sales,
            Err(error) => {
                tracing::warn!(%error, "the relay goes on with the sales it knows");
            }
        }
    }

    /// Whose turn it is of the sales that PostgreSQL knew last; those with events that Kafka did not take; and those that
    /// this process took orders for lately and that PostgreSQL did not know, or that were closed since.
    fn due(&mut self) -> BTreeSet<VoucherId> {
        let turn = self.turns.next(&self.known);
        let served: HashSet<_> = self.shared.queues.served_vouchers().into_iter().collect();
        let known: HashSet<_> = self.known.iter().map(|sale| sale.voucher_id).collect();
        self.unpublished
            .retain(|sale, _| known.contains(sale) || served.contains(sale));
        let in_turn = self.known.iter().filter(|sale| {
            let closed_since = !sale.busy && served.contains(&sale.voucher_id);
            closed_since || turn.takes(sale)
        });
        let in_turn = in_turn.map(|sale| sale.voucher_id);
        let not_known = served.difference(&known).copied();
        let unpublished = self.unpublished.keys().copied();
        in_turn.chain(not_known).chain(unpublished).collect()
    }

    /// An event that has been pending for longer has no producer any more.
    fn give_up_after(&self) -> Duration {
        self.shared.options.delivery_timeout + MARGIN
    }

    async fn relay_sale(&self, voucher: VoucherId) -> Result<(), RelayError> {
        let older_than = self.give_up_after();
        let mut cursor = OutboxCursor::START;
        loop {
            let page = self
                .shared
                .pages
                .outbox(voucher, older_than, cursor)
                .await?;
            // Not served: the sale is being loaded, and the load takes its outbox over.
            let Some(page) = page else { return Ok(()) };
            for entries in page.entries.chunks(MAX_ITEMS) {
                self.publish(voucher, entries).await?;
            }
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(()),
            }
        }
    }

    /// Publishes entries, waits for all acks and clears those that came.
    async fn publish(
        &self,
        voucher: VoucherId,
        entries: &[PendingEvent],
    ) -> Result<(), RelayError> {
        if entries.is_empty() {
            return Ok(());
        }
        fail::fail_point!("ingress.relay.before-produce");
        let mut sent = Vec::with_capacity(entries.len());
        let mut failure = None;
        for entry in entries {
            let event = entry.to_event(voucher);
            match self
                .shared
                .publisher
                .send(&event, entry.traceparent(), None)
            {
                Ok(record) => sent.push((record, entry.ack())),
                Err(error) => {
                    failure = Some(RelayError::from(error));
                    break;
                }
            }
        }
        let mut acks: Vec<Ack> = Vec::with_capacity(sent.len());
        for (mut record, ack) in sent {
            match self.shared.publisher.acknowledged(&mut record).await {
                Ok(()) => acks.push(ack),
                Err(error) => failure = Some(error.into()),
            }
        }
        self.shared
            .meters
            .relay_published
            .increment(acks.len() as u64);
        if !acks.is_empty() {
            fail::fail_point!("ingress.relay.after-produce");
            tracing::info!(%voucher, events = acks.len(), "published what was never acknowledged");
            self.shared.pages.clear(voucher, &acks).await?;
        }
        failure.map_or(Ok(()), Err)
    }
}
