//! One round: look for due orders, claim them, append their expiries.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fail::fail_point;
use seckill_domain::{Event, EventBody, EventId, OrderExpired, OrderId, Timestamp, TraceParent};
use seckill_eventlog::EventProducer;
use seckill_orderbook::{DueOrder, Orderbook, OrderbookError};
use seckill_service::traces::{self, Kind, Span};
use seckill_stock::StockError;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clocks::{Clocks, Reading, Skew, SkewError};

/// How a round is made.
#[derive(Debug, Clone, Copy)]
pub struct ExpirerOptions {
    /// How long past its deadline an order is left alone, and how far the clocks may be apart.
    pub grace: Duration,
    /// The most orders in a round.
    pub page_size: u32,
    /// How long nobody else takes an order that was claimed for the first time; a later claim is for longer
    /// ([`Orderbook::claim_due`]). Longer than the producer tries to deliver, or an order would be claimed
    /// again while its first event is still on its way.
    pub claim_for: Duration,
}

/// Expires what is due.
pub struct Expirer<C> {
    orderbook: Orderbook,
    producer: Arc<EventProducer>,
    clocks: C,
    options: ExpirerOptions,
}

/// What a round did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepReport {
    /// Orders claimed.
    pub claimed: usize,
    /// Events that the log has acknowledged. The rest of the claimed orders are claimed anew, by
    /// whomever, when their claims have lapsed.
    pub published: usize,
    /// How long ago the oldest due order, claimed in this round or before it, could have been paid at the
    /// latest; zero without any.
    pub lag: Duration,
    /// The database's clock against Redis'.
    pub skew: Skew,
    /// Whether there may be more to do at once.
    pub full_page: bool,
}

/// Why a round did nothing. Nothing has to be undone: the next round tries again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database's clock or the orders cannot be read.
    #[error("nothing is expired, PostgreSQL does not answer: {0}")]
    Database(#[from] OrderbookError),
    /// Redis' clock cannot be read.
    #[error("nothing is expired, Redis does not tell the time: {0}")]
    Redis(#[from] StockError),
    /// The clocks do not agree.
    #[error("nothing is expired, {error}")]
    Clocks {
        /// How.
        #[source]
        error: SkewError,
        skew: Skew,
    },
}

impl StepError {
    /// The name of the readiness condition that it breaks.
    #[must_use]
    pub const fn condition(&self) -> &'static str {
        match self {
            Self::Database(_) => "postgresql",
            Self::Redis(_) => "redis",
            Self::Clocks { .. } => "clock-skew",
        }
    }
}

impl<C: Clocks> Expirer<C> {
    /// Puts the parts together.
    #[must_use]
    pub const fn new(
        orderbook: Orderbook,
        producer: Arc<EventProducer>,
        clocks: C,
        options: ExpirerOptions,
    ) -> Self {
        Self {
            orderbook,
            producer,
            clocks,
            options,
        }
    }

    /// One round. It is not to be dropped half-way: what it claimed would wait for its claims to
    /// lapse.
    ///
    /// # Errors
    /// When a store does not answer or the clocks do not agree; see [`StepError`].
    pub async fn step(&self) -> Result<StepReport, StepError> {
        let ExpirerOptions {
            grace,
            page_size,
            claim_for,
        } = self.options;
        let oldest = self.orderbook.oldest_due(grace).await?;
        let (now, skew) = self.clock().await?;
        let due = self
            .orderbook
            .claim_due(grace, page_size, claim_for)
            .await?;
        let published = self.publish(&due).await;
        Ok(StepReport {
            claimed: due.len(),
            published,
            lag: lag(now, oldest),
            skew,
            full_page: due.len() == page_size as usize,
        })
    }

    /// Deletes the claims of orders that are not unpaid any more.
    ///
    /// # Errors
    /// When the database does not answer; it does no harm to leave them.
    pub async fn forget_claims(&self) -> Result<(), OrderbookError> {
        self.orderbook.forget_claims().await?;
        Ok(())
    }

    /// The database's time, if deadlines may be judged by it.
    async fn clock(&self) -> Result<(Timestamp, Skew), StepError> {
        let origin = Instant::now();
        let database = Reading::take(origin, self.clocks.database()).await?;
        let redis = Reading::take(origin, self.clocks.redis()).await?;
        let nobody = || StockError::Misconfigured("Redis has no master".to_owned());
        let skew = Skew::worst(&database, &redis).ok_or_else(nobody)?;
        skew.check(self.options.grace)
            .map_err(|error| StepError::Clocks { error, skew })?;
        Ok((database.clock, skew))
    }

    /// Appends an event for each order and waits for the acknowledgements; says how many came.
    async fn publish(&self, due: &[DueOrder]) -> usize {
        if due.is_empty() {
            return 0;
        }
        fail_point!("timeout.after-claim");
        let mut deliveries = Vec::with_capacity(due.len());
        let mut failed = Vec::new();
        let mut failure: Option<String> = None;
        for order in due {
            let (event, trace) = (expiry(order), traces::begin());
            let began = SystemTime::now();
            match self.producer.send_event(&event, Some(trace)) {
                Ok(delivery) => deliveries.push((order.order_id, trace, began, delivery)),
                Err(error) => {
                    failed.push(order.order_id);
                    failure = Some(error.to_string());
                }
            }
        }
        for (order_id, traceparent, began, delivery) in deliveries {
            match delivery.await {
                Ok(_) => {
                    tracing::debug!(%order_id, %traceparent, "expiry published");
                    trace(order_id, traceparent, began);
                }
                Err(error) => {
                    failed.push(order_id);
                    failure = Some(error.to_string());
                }
            }
        }
        // One line a page: an outage fails whole pages.
        if let Some(error) = failure {
            tracing::warn!(failed = failed.len(), error, "expiries not acknowledged");
            self.shorten_claims(&failed).await;
        }
        fail_point!("timeout.after-produce");
        due.len() - failed.len()
    }

    /// An outage of the log makes no claim longer.
    async fn shorten_claims(&self, orders: &[OrderId]) {
        let claim_for = self.options.claim_for;
        if let Err(error) = self.orderbook.shorten_claims(orders, claim_for).await {
            tracing::warn!(%error, "their claims stand for longer than they need to");
        }
    }
}

fn expiry(order: &DueOrder) -> Event {
    Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: order.order_id.voucher_id(),
        occurred_at: order.claimed_at,
        body: EventBody::OrderExpired(OrderExpired {
            order_id: order.order_id,
            pay_by: order.pay_by,
        }),
    }
}

/// No request stands behind an expiry: its trace begins here, and links to the order.
fn trace(order: OrderId, context: TraceParent, began: SystemTime) {
    if traces::wants(context) {
        Span::new("publish OrderExpired", Kind::Producer, context, None, began)
            .with("messaging.system", "kafka")
            .with("seckill.order_id", order.to_string())
            .linked([traces::of_order(order)])
            .end();
    }
}

fn lag(now: Timestamp, oldest: Option<Timestamp>) -> Duration {
    let late_us = oldest.map_or(0, |pay_by| now.as_micros() - pay_by.as_micros());
    Duration::from_micros(u64::try_from(late_us).unwrap_or(0))
}
