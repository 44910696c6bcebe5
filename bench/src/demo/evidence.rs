//! What was seen of one sale: by its buyers, by the payment provider, in the tables, in Redis and
//! in the log. The invariants are checked on this and on nothing else.

use seckill_domain::{Order, OrderId, OrderStatus, Refund, SaleState};

use crate::answer::Answer;

/// One attempt to order and its answer.
#[derive(Debug, Clone, Copy)]
pub struct ClickRecord {
    /// The wave, from 1. A user uses one idempotency key a wave.
    pub wave: u32,
    pub user: u32,
    /// What it was told.
    pub answer: Answer,
}

/// One payment that the provider reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentRecord {
    /// The provider's id.
    pub payment_id: String,
    /// The order that it names.
    pub order_id: OrderId,
    /// How much.
    pub amount_cents: i64,
    /// Whether it has to be refunded.
    pub refund_expected: bool,
    /// How many of its webhook calls were answered 202.
    pub acknowledged: u32,
}

/// The sale's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaleRow {
    /// Units at the start.
    pub initial: i64,
    /// Units added since, less those taken away.
    pub adjusted: i64,
    /// Units free.
    pub stock_left: i64,
    /// Units in unpaid orders.
    pub unpaid: i64,
    /// Units in paid orders.
    pub paid: i64,
}

/// An order's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub order_id: OrderId,
    pub user_id: i64,
    /// Units.
    pub quantity: i64,
    /// What is to be paid.
    pub amount_cents: i64,
    /// How far it has come.
    pub status: OrderStatus,
    /// The payment that was honoured.
    pub payment_id: Option<String>,
    /// Where it was reserved.
    pub reserved_offset: i64,
    /// Where it was paid, expired or cancelled.
    pub closed_offset: Option<i64>,
}

impl From<&Order> for OrderRow {
    fn from(order: &Order) -> Self {
        Self {
            order_id: order.order_id,
            user_id: order.user_id.get(),
            quantity: i64::from(order.quantity),
            amount_cents: order.amount.cents(),
            status: order.status,
            payment_id: order.payment_id.as_ref().map(ToString::to_string),
            reserved_offset: order.reserved_offset.get(),
            closed_offset: order.closed.map(|(_, offset)| offset.get()),
        }
    }
}

/// A refund's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundRow {
    /// The payment to give back.
    pub payment_id: String,
    /// The order that it named.
    pub order_id: OrderId,
    /// How much.
    pub amount_cents: i64,
    /// Why.
    pub reason: String,
    /// Where that was decided.
    pub offset: i64,
}

impl From<&Refund> for RefundRow {
    fn from(refund: &Refund) -> Self {
        Self {
            payment_id: refund.payment_id.to_string(),
            order_id: refund.order_id,
            amount_cents: refund.amount.cents(),
            reason: refund.reason.as_str().to_owned(),
            offset: refund.offset.get(),
        }
    }
}

/// A buyer's hold in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRow {
    pub user_id: i64,
    pub order_id: OrderId,
    /// Units.
    pub quantity: i64,
    /// Whether it still holds them.
    pub live: bool,
}

/// The sale in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisView {
    /// Units free.
    pub stock: i64,
    /// Units granted and not settled.
    pub unsettled: i64,
    /// Events not known to be in the log.
    pub pending_events: i64,
    /// All holds, also released ones.
    pub holds: Vec<HoldRow>,
}

/// The sale by its events.
#[derive(Debug, Clone)]
pub struct LogView {
    /// How many events there are.
    pub events: usize,
    /// Where the partition ended when it was read.
    pub end_offset: i64,
    /// How far the projector had come afterwards.
    pub folded_to: i64,
    /// What the events fold to.
    pub state: SaleState,
    /// Whether each event twice, and then all of them once more, folds to the same.
    pub duplicates_change_nothing: bool,
    /// The most units that were unpaid or paid after any event.
    pub most_committed: i64,
    /// The fewest units that were free after any event.
    pub least_available: i64,
}

/// The stock when everything unpaid of the first wave had lapsed, before anything was sold again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Units in paid orders by their rows.
    pub paid: i64,
    /// Units free, by PostgreSQL.
    pub stock_left: i64,
    /// Units free, by Redis.
    pub redis_stock: i64,
}

/// Both stocks as they were sampled while the sale ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// How often.
    pub samples: u64,
    /// The smallest stock ever seen in Redis.
    pub least_redis: i64,
    /// The smallest stock ever seen in PostgreSQL.
    pub least_stock_left: i64,
}

/// Everything there is to check a finished sale by.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Every attempt to order.
    pub clicks: Vec<ClickRecord>,
    /// Every payment.
    pub payments: Vec<PaymentRecord>,
    /// The sale's row.
    pub sale: SaleRow,
    pub orders: Vec<OrderRow>,
    pub refunds: Vec<RefundRow>,
    /// Redis.
    pub redis: RedisView,
    pub log: LogView,
    /// Half-time.
    pub restored: Restored,
    /// Samples.
    pub watched: Watched,
}

impl Evidence {
    /// S: all units there are.
    #[must_use]
    pub const fn stock(&self) -> i64 {
        self.sale.initial + self.sale.adjusted
    }

    /// Units in orders of one status, by the rows of the orders.
    #[must_use]
    pub fn units(&self, status: OrderStatus) -> i64 {
        let matching = self.orders.iter().filter(|order| order.status == status);
        matching.map(|order| order.quantity).sum()
    }
}
