//! What the fold knows of one sale.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use uuid::Uuid;

use crate::{
    Decision, Epoch, Event, EventId, KeyHash, Money, Offset, OrderId, PaymentId, RefundReason,
    RejectReason, Timestamp, Title, UserId, VoucherId, decide,
};

/// What is sold, when and how. Fixed when the sale is scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What buyers see.
    pub title: Title,
    /// The price of one unit.
    pub price: Money,
    /// Units at the start, before adjustments.
    pub stock: i64,
    /// The most units in one order.
    pub max_quantity: u32,
    /// When orders are first taken.
    pub opens_at: Timestamp,
    /// When orders are no longer taken.
    pub closes_at: Timestamp,
    /// Seconds from the reservation to the end of the time to pay.
    pub hold_seconds: u32,
    /// Whether an order needs a sale token of its buyer. This is checked when units are granted, not when the
    /// log is folded.
    pub requires_sale_token: bool,
}

/// The limits for a new sale. Logs may contain larger values: see [`Event::check`].
impl Terms {
    /// The price of one unit, in cents.
    pub const PRICE_CENTS: RangeInclusive<i64> = 0..=100_000_000_000;
    /// Units at the start.
    pub const STOCK: RangeInclusive<i64> = 1..=1_000_000_000;
    /// The most units in one order.
    pub const MAX_QUANTITY: RangeInclusive<i64> = 1..=1_000;
    /// Seconds to pay.
    pub const HOLD_SECONDS: RangeInclusive<i64> = 1..=86_400;
    /// The most units that one change of stock adds or takes off.
    pub const DELTA_MAX: i64 = 1_000_000_000;
}

/// A sale's numbers. Always: `terms.stock + adjusted = available + unpaid + paid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    /// The sale.
    pub voucher_id: VoucherId,
    /// Its terms.
    pub terms: Terms,
    /// Units added less units taken away since.
    pub adjusted: i64,
    /// Units free.
    pub available: i64,
    /// Units in unpaid orders.
    pub unpaid: i64,
    /// Units in paid orders.
    pub paid: i64,
    /// The epoch.
    pub epoch: Epoch,
    /// Where it was scheduled.
    pub scheduled_offset: Offset,
    /// When and where it was closed.
    pub closed: Option<(Timestamp, Offset)>,
}

/// How far an order has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderStatus {
    /// Accepted; it waits for its payment.
    Unpaid,
    /// Paid: final.
    Paid,
    /// Not paid in time: final.
    Expired,
    /// Given up by the buyer: final.
    Cancelled,
    /// Rejected by the fold: final. Possible only after a store lost data.
    Rejected,
}

impl OrderStatus {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unpaid,
        Self::Paid,
        Self::Expired,
        Self::Cancelled,
        Self::Rejected,
    ];

    /// As tables, messages and answers spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Paid => "paid",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
        }
    }

    /// Reads [`Self::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the order holds units, so that its buyer cannot place another order.
    #[must_use]
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Unpaid | Self::Paid)
    }

    /// Whether nothing changes it any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Unpaid)
    }
}

/// An order: the row of the orders table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Its id, which names its voucher.
    pub order_id: OrderId,
    /// The buyer.
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// What is to be paid in all.
    pub amount: Money,
    /// How far it has come.
    pub status: OrderStatus,
    /// Why it was rejected, if it was.
    pub rejected: Option<RejectReason>,
    /// When it was reserved.
    pub reserved_at: Timestamp,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
    /// The hash of its idempotency key.
    pub key_hash: Option<KeyHash>,
    /// Where it was reserved or rejected.
    pub reserved_offset: Offset,
    /// When and where it was paid, expired or cancelled.
    pub closed: Option<(Timestamp, Offset)>,
    /// The payment that was honoured.
    pub payment_id: Option<PaymentId>,
}

impl Order {
    /// 1 when it is first decided, 2 when it is paid, expired or cancelled.
    #[must_use]
    pub const fn version(&self) -> i64 {
        if self.closed.is_some() { 2 } else { 1 }
    }
}

/// A payment that cannot be honoured and has to go back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The payment.
    pub payment_id: PaymentId,
    /// The order that it named.
    pub order_id: OrderId,
    /// What was paid.
    pub amount: Money,
    /// Why it cannot be honoured.
    pub reason: RefundReason,
    /// Where that was decided.
    pub offset: Offset,
}

/// What became of a payment id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentFate {
    /// It paid an order.
    Honoured,
    /// It is to be refunded.
    RefundDue,
}

/// The state of one sale. It may be a part of the state, as long as it contains everything that the
/// events to be folded name: the sale itself, their orders, the live orders of their users, their
/// payment ids, adjustments and reload nonces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaleState {
    /// None before it is scheduled.
    pub sale: Option<Sale>,
    /// Orders by id.
    pub orders: HashMap<OrderId, Order>,
    /// The one live order of a user.
    pub live: HashMap<UserId, OrderId>,
    /// Payments seen.
    pub payments: HashMap<PaymentId, PaymentFate>,
    /// Refunds due, in the order they were decided.
    pub refunds: Vec<Refund>,
    /// Adjustments seen, by event id: whether they were accepted.
    pub adjustments: HashMap<EventId, bool>,
    /// Reload nonces seen: whether they were accepted.
    pub reloads: HashMap<Uuid, bool>,
}

impl SaleState {
    /// Decides one event and applies the decision: the whole fold.
    pub fn fold(&mut self, offset: Offset, event: &Event) -> Option<Decision> {
        let decision = decide(self, event)?;
        self.apply(offset, event, &decision);
        Some(decision)
    }

    /// Changes the state by what was decided of `event`, which stands at `offset`.
    pub fn apply(&mut self, offset: Offset, event: &Event, decision: &Decision) {
        match decision {
            Decision::SaleScheduled { terms } => self.schedule(offset, event.voucher_id, terms),
            Decision::SaleClosed => {
                if let Some(sale) = &mut self.sale {
                    sale.closed = Some((event.occurred_at, offset));
                }
            }
            Decision::StockAdjusted { delta, accepted } => {
                self.adjustments.insert(event.event_id, *accepted);
                if let (Some(sale), true) = (&mut self.sale, *accepted) {
                    sale.adjusted += delta;
                    sale.available += delta;
                }
            }
            Decision::SaleReloaded {
                nonce,
                epoch,
                accepted,
            } => {
                self.reloads.insert(*nonce, *accepted);
                if let (Some(sale), true) = (&mut self.sale, *accepted) {
                    sale.epoch = *epoch;
                }
            }
            Decision::OrderReserved { order } => self.reserve(offset, order),
            Decision::OrderRejected { order } => {
                let order = Order {
                    reserved_offset: offset,
                    ..order.clone()
                };
                self.orders.insert(order.order_id, order);
            }
            Decision::OrderPaid {
                order_id,
                payment_id,
            } => {
                self.remember(payment_id, PaymentFate::Honoured);
                self.close(
                    offset,
                    event,
                    *order_id,
                    OrderStatus::Paid,
                    Some(payment_id),
                );
            }
            Decision::OrderExpired { order_id } => {
                self.close(offset, event, *order_id, OrderStatus::Expired, None);
            }
            Decision::OrderCancelled { order_id } => {
                self.close(offset, event, *order_id, OrderStatus::Cancelled, None);
            }
            Decision::RefundDue {
                order_id,
                payment_id,
                amount,
                reason,
            } => {
                self.remember(payment_id, PaymentFate::RefundDue);
                self.refunds.push(Refund {
                    payment_id: payment_id.clone(),
                    order_id: *order_id,
                    amount: *amount,
                    reason: *reason,
                    offset,
                });
            }
        }
    }

    fn schedule(&mut self, offset: Offset, voucher_id: VoucherId, terms: &Terms) {
        self.sale = Some(Sale {
            voucher_id,
            terms: terms.clone(),
            adjusted: 0,
            available: terms.stock,
            unpaid: 0,
            paid: 0,
            epoch: Epoch::FIRST,
            scheduled_offset: offset,
            closed: None,
        });
    }

    fn reserve(&mut self, offset: Offset, order: &Order) {
        if let Some(sale) = &mut self.sale {
            sale.available -= i64::from(order.quantity);
            sale.unpaid += i64::from(order.quantity);
        }
        self.live.insert(order.user_id, order.order_id);
        let order = Order {
            reserved_offset: offset,
            ..order.clone()
        };
        self.orders.insert(order.order_id, order);
    }

    fn close(
        &mut self,
        offset: Offset,
        event: &Event,
        order_id: OrderId,
        status: OrderStatus,
        payment_id: Option<&PaymentId>,
    ) {
        let Some(order) = self.orders.get_mut(&order_id) else {
            return;
        };
        order.status = status;
        order.closed = Some((event.occurred_at, offset));
        order.payment_id = payment_id.cloned();
        let units = i64::from(order.quantity);
        if !status.is_live() {
            self.live.remove(&order.user_id);
        }
        if let Some(sale) = &mut self.sale {
            sale.unpaid -= units;
            if status == OrderStatus::Paid {
                sale.paid += units;
            } else {
                sale.available += units;
            }
        }
    }

    fn remember(&mut self, payment_id: &PaymentId, fate: PaymentFate) {
        self.payments.insert(payment_id.clone(), fate);
    }
}
