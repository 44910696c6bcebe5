//! What a decision means outside the fold's own view: for the stock in Redis, and for consumers.
//! Effects are derived from rows, never from a decision in memory. If a process dies between the
//! two stores, the next process derives the same effects again.

use crate::{
    Currency, EventId, KeyHash, Money, Offset, Order, OrderId, OrderStatus, PaymentId, Refund,
    RefundReason, RejectReason, Sale, Timestamp, UserId, VoucherId,
};

/// One record's effects: first on the stock in Redis, then as an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The sale.
    pub voucher_id: VoucherId,
    /// The record that was decided.
    pub offset: Offset,
    /// The change in Redis, if there is one.
    pub stock: Option<StockOp>,
    /// What consumers are told.
    pub outcome: Outcome,
}

/// The change that a decision makes in Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StockOp {
    /// The order was accepted. Its hold becomes settled; if Redis does not have the hold, it is created.
    Confirm {
        /// The order.
        order_id: OrderId,
        /// The buyer.
        user_id: UserId,
        /// Units.
        quantity: u32,
        /// The hash of the order's idempotency key.
        key_hash: Option<KeyHash>,
        /// Until when it may be paid.
        pay_by: Timestamp,
    },
    /// The order was rejected, or it has ended without a payment. If the buyer's hold belongs to this order,
    /// its units are free again.
    Release {
        /// The order.
        order_id: OrderId,
        /// The buyer.
        user_id: UserId,
    },
    /// Units more.
    Restock {
        /// How many.
        units: i64,
    },
    /// A shrink was accepted: the units taken under its event id are gone.
    ShrinkKept {
        /// The adjustment.
        event_id: EventId,
        /// How many.
        units: i64,
    },
    /// A shrink was refused: the units taken under its event id go back.
    ShrinkReturned {
        /// The adjustment.
        event_id: EventId,
        /// How many.
        units: i64,
    },
    /// The sale takes no more orders.
    Close,
}

/// What was decided, for consumers that do not know the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of an order.
    Order(OrderOutcome),
    /// Of a sale.
    Sale(SaleOutcome),
    /// A refund is due.
    Refund(RefundOutcome),
}

/// An order's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderOutcome {
    /// The order.
    pub order_id: OrderId,
    /// The buyer.
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// What is to be paid in all.
    pub amount: Money,
    /// The status.
    pub status: OrderStatus,
    /// Rises with every change of the order: consumers keep the highest.
    pub version: i64,
    /// Why it was rejected, if it was.
    pub rejected: Option<RejectReason>,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
}

/// A sale's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaleOutcome {
    /// What happened.
    pub phase: SalePhase,
    /// Rises with every change of the sale: the offset of the record decided, plus one, and as many more as
    /// the view has lost offsets ([`crate::LogRef`]).
    pub version: i64,
    /// Units by which the stock changed.
    pub delta: i64,
}

/// What happened to a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SalePhase {
    /// Put up.
    Scheduled,
    /// Stock changed.
    Adjusted,
    /// A shrink was refused.
    AdjustmentRefused,
    /// An operator closed it.
    Closed,
}

impl SalePhase {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Scheduled,
        Self::Adjusted,
        Self::AdjustmentRefused,
        Self::Closed,
    ];

    /// As messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Adjusted => "adjusted",
            Self::AdjustmentRefused => "adjustment-refused",
            Self::Closed => "closed",
        }
    }

    /// Reads [`Self::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.as_str() == text)
    }
}

/// A refund that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefundOutcome {
    /// The payment to give back.
    pub payment_id: PaymentId,
    /// The order that it named.
    pub order_id: OrderId,
    /// How much, in cents.
    pub amount_cents: i64,
    /// In which currency.
    pub currency: Currency,
    /// Why.
    pub reason: RefundReason,
}

/// An adjustment as its row has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdjustmentRow {
    /// The event.
    pub event_id: EventId,
    /// The sale.
    pub voucher_id: VoucherId,
    /// Units, negative for a shrink.
    pub delta: i64,
    /// Whether the stock changed.
    pub accepted: bool,
    /// Where it was decided.
    pub offset: Offset,
}

/// The effects of the one or two records that made an order what it is.
#[must_use]
pub fn effects_of_order(order: &Order) -> Vec<Effect> {
    let effect = |offset, status: OrderStatus, version| Effect {
        voucher_id: order.order_id.voucher_id(),
        offset,
        stock: stock_op(order, status),
        outcome: Outcome::Order(OrderOutcome {
            order_id: order.order_id,
            user_id: order.user_id,
            quantity: order.quantity,
            amount: order.amount,
            status,
            version,
            rejected: order.rejected,
            pay_by: order.pay_by,
        }),
    };
    let first = if order.rejected.is_some() {
        OrderStatus::Rejected
    } else {
        OrderStatus::Unpaid
    };
    let mut effects = vec![effect(order.reserved_offset, first, 1)];
    if let Some((_, offset)) = order.closed {
        effects.push(effect(offset, order.status, order.version()));
    }
    effects
}

fn stock_op(order: &Order, status: OrderStatus) -> Option<StockOp> {
    match status {
        OrderStatus::Unpaid => Some(StockOp::Confirm {
            order_id: order.order_id,
            user_id: order.user_id,
            quantity: order.quantity,
            key_hash: order.key_hash,
            pay_by: order.pay_by,
        }),
        OrderStatus::Paid => None,
        OrderStatus::Expired | OrderStatus::Cancelled | OrderStatus::Rejected => {
            Some(StockOp::Release {
                order_id: order.order_id,
                user_id: order.user_id,
            })
        }
    }
}

/// The effect of an adjustment.
#[must_use]
pub fn effects_of_adjustment(row: &AdjustmentRow) -> Effect {
    let units = row.delta.saturating_abs();
    let stock = match (row.delta > 0, row.accepted) {
        (true, true) => Some(StockOp::Restock { units }),
        (true, false) => None,
        (false, true) => Some(StockOp::ShrinkKept {
            event_id: row.event_id,
            units,
        }),
        (false, false) => Some(StockOp::ShrinkReturned {
            event_id: row.event_id,
            units,
        }),
    };
    let phase = if row.accepted {
        SalePhase::Adjusted
    } else {
        SalePhase::AdjustmentRefused
    };
    sale_effect(row.voucher_id, row.offset, stock, phase, row.delta)
}

/// The effects of scheduling a sale and of closing it. Scheduling has no effect in Redis: the
/// projector loads a sale that Redis does not have.
#[must_use]
pub fn effects_of_sale(sale: &Sale) -> Vec<Effect> {
    let id = sale.voucher_id;
    let mut effects = vec![sale_effect(
        id,
        sale.scheduled_offset,
        None,
        SalePhase::Scheduled,
        sale.terms.stock,
    )];
    if let Some((_, offset)) = sale.closed {
        let close = Some(StockOp::Close);
        effects.push(sale_effect(id, offset, close, SalePhase::Closed, 0));
    }
    effects
}

/// The effect of a payment that cannot be honoured.
#[must_use]
pub fn effects_of_refund(refund: &Refund) -> Effect {
    Effect {
        voucher_id: refund.order_id.voucher_id(),
        offset: refund.offset,
        stock: None,
        outcome: Outcome::Refund(RefundOutcome {
            payment_id: refund.payment_id.clone(),
            order_id: refund.order_id,
            amount_cents: refund.amount.cents(),
            currency: refund.amount.currency(),
            reason: refund.reason,
        }),
    }
}

fn sale_effect(
    voucher_id: VoucherId,
    offset: Offset,
    stock: Option<StockOp>,
    phase: SalePhase,
    delta: i64,
) -> Effect {
    Effect {
        voucher_id,
        offset,
        stock,
        outcome: Outcome::Sale(SaleOutcome {
            phase,
            version: offset.next().get(),
            delta,
        }),
    }
}
