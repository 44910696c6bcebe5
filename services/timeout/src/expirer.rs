//! One round: finds due orders, claims them and appends their expiries.

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

/// The settings of a round.
#[derive(Debug, Clone, Copy)]
pub struct ExpirerOptions {
    /// How long to wait after an order's deadline, and how much the clocks may differ.
    pub grace: Duration,
    /// The most orders in a round.
    pub page_size: u32,
    /// How long the first claim of an order lasts. Later claims last longer ([`Orderbook::claim_due`]). This has to be
    /// longer than the producer's delivery time-out; otherwise an order would be claimed again while the producer still
    /// tries to send its first event.
    pub claim_for: Duration,
}

/// Expires orders that are due.
pub struct Expirer<C> {
    orderbook: Orderbook,
    producer: Arc<EventProducer>,
    clocks: C,
    options: ExpirerOptions,
}

/// The result of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StepReport {
    /// Orders claimed.
    pub claimed: usize,
    /// The number of events that the log has acknowledged. The other claimed orders are claimed again, by any instance,
    /// when their claims have lapsed.
    pub published: usize,
    /// The time since the deadline of the oldest due order, claimed in this round or earlier. Zero if none is due.
    pub lag: Duration,
    /// The difference between the database's clock and Redis' clock.
    pub skew: Skew,
    /// Whether more orders may be due.
    pub full_page: bool,
}

/// Why a round did nothing. Nothing has to be undone, and the next round tries again.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The database's clock or the orders cannot be read.
    #[error("nothing is expired, PostgreSQL does not answer: {0}")]
    Database(#[from] OrderbookError),
    /// Redis' clock cannot be read.
    #[error("nothing is expired, Redis does not tell the time: {0}")]
    Redis(#[from] StockError),
    /// The clocks differ too much, or the difference is not known.
    #[error("nothing is expired, {error}")]
    Clocks {
        /// The difference.
        #[source]
        error: SkewError,
        skew: Skew,
    },
}

impl StepError {
    /// The name of the readiness condition that this error breaks.
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

    /// Makes one round. Do not drop the future before its end: its orders would have to wait until their claims lapse.
    ///
    /// # Errors
    /// When a store does not answer or the clocks differ too much; see [`StepError`].
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

    /// Deletes the claims of orders that are no longer unpaid.
    ///
    /// # Errors
    /// When the database does not answer. It does no harm to keep the claims.
    pub async fn forget_claims(&self) -> Result<(), OrderbookError> {
        self.orderbook.forget_claims().await?;
        Ok(())
    }

    /// The database's time, if it is close enough to Redis' time to decide on deadlines.
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

    /// Appends an event for each order and waits for the acknowledgements. Returns their number.
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
        // Log one line for each page, because in an outage all orders of a page fail.
        if let Some(error) = failure {
            tracing::warn!(failed = failed.len(), error, "expiries not acknowledged");
            self.shorten_claims(&failed).await;
        }
        fail_point!("timeout.after-produce");
        due.len() - failed.len()
    }

    /// Shortens the claims of orders whose events the log did not acknowledge, so that an outage of the log does not
    /// make their next claims longer.
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

/// An expiry is not caused by a request, so a new trace begins here. It has a link to the trace of the order.
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
