//! The rule. It decides whether a reservation is accepted, and whether the payment or the expiry
//! came first. It uses the order of the records in the log, and nothing else.

use crate::{Epoch, Timestamp};
use crate::{
    Event, EventBody, EventId, Money, Offset, Order, OrderCancelled, OrderExpired, OrderId,
    OrderPaid, OrderStatus, PaymentId, SaleReloaded, SaleState, SeckillReserved, StockAdjusted,
    Terms, UserId,
};
use uuid::Uuid;

/// What an event changed. An event that changes nothing has no decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The sale is up.
    SaleScheduled {
        /// Its terms.
        terms: Terms,
    },
    /// An operator closed the sale.
    SaleClosed,
    /// A change of stock was accepted or refused.
    StockAdjusted {
        /// Units, negative for a shrink.
        delta: i64,
        /// Whether the stock changed.
        accepted: bool,
    },
    /// A new epoch was accepted or refused.
    SaleReloaded {
        /// The claim it belongs to.
        nonce: Uuid,
        /// The epoch asked for.
        epoch: Epoch,
        /// Whether it is the sale's epoch now.
        accepted: bool,
    },
    /// A reservation stands.
    OrderReserved {
        /// The new order.
        order: Order,
    },
    /// A reservation does not stand.
    OrderRejected {
        /// The new order, with its reason.
        order: Order,
    },
    /// An order is paid.
    OrderPaid {
        /// The order.
        order_id: OrderId,
        /// The payment.
        payment_id: PaymentId,
    },
    /// An order's time is over; its units are free.
    OrderExpired {
        /// The order.
        order_id: OrderId,
    },
    /// An order was given up; its units are free.
    OrderCancelled {
        /// The order.
        order_id: OrderId,
    },
    /// A payment cannot be honoured.
    RefundDue {
        /// The order that it named.
        order_id: OrderId,
        /// The payment.
        payment_id: PaymentId,
        /// What was paid.
        amount: Money,
        /// Why.
        reason: RefundReason,
    },
}

/// Why a reservation in the log does not stand. Possible only after a store lost data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// The log has no such sale.
    UnknownSale,
    /// The user has a live order.
    AlreadyOrdered,
    /// Not enough units are free.
    OutOfStock,
    /// Granted in an epoch that has ended.
    StaleEpoch,
}

impl RejectReason {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::UnknownSale,
        Self::AlreadyOrdered,
        Self::OutOfStock,
        Self::StaleEpoch,
    ];

    /// As tables and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownSale => "unknown-sale",
            Self::AlreadyOrdered => "already-ordered",
            Self::OutOfStock => "out-of-stock",
            Self::StaleEpoch => "stale-epoch",
        }
    }

    /// Reads [`Self::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// Why a payment goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefundReason {
    /// The log has no such order before the payment.
    UnknownOrder,
    /// The amount or the currency is not the order's.
    WrongAmount,
    /// Another payment came first.
    AlreadyPaid,
    /// The expiry came first.
    OrderExpired,
    /// The cancellation came first.
    OrderCancelled,
    /// The reservation was rejected.
    OrderRejected,
}

impl RefundReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::UnknownOrder,
        Self::WrongAmount,
        Self::AlreadyPaid,
        Self::OrderExpired,
        Self::OrderCancelled,
        Self::OrderRejected,
    ];

    /// As tables and messages spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnknownOrder => "unknown-order",
            Self::WrongAmount => "wrong-amount",
            Self::AlreadyPaid => "already-paid",
            Self::OrderExpired => "order-expired",
            Self::OrderCancelled => "order-cancelled",
            Self::OrderRejected => "order-rejected",
        }
    }

    /// Reads [`Self::as_str`] back.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == text)
    }
}

/// What [`decide`] looks up for an event, beside its sale and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup<'e> {
    /// Nothing else.
    None,
    /// The live order of a buyer.
    Buyer(UserId),
    /// What became of a payment.
    Payment(&'e PaymentId),
    /// Whether an adjustment was decided before.
    Adjustment(EventId),
    /// Whether the load of this nonce was decided before.
    Reload(Uuid),
}

impl Event {
    /// What [`decide`] looks up for it.
    #[must_use]
    pub const fn lookup(&self) -> Lookup<'_> {
        match &self.body {
            EventBody::StockAdjusted(_) => Lookup::Adjustment(self.event_id),
            EventBody::SaleReloaded(e) => Lookup::Reload(e.nonce),
            EventBody::SeckillReserved(e) => Lookup::Buyer(e.user_id),
            EventBody::OrderPaid(e) => Lookup::Payment(&e.payment_id),
            EventBody::SaleScheduled(_)
            | EventBody::SaleClosed
            | EventBody::OrderCancelled(_)
            | EventBody::OrderExpired(_)
            | EventBody::RecordSkipped(_) => Lookup::None,
        }
    }
}

/// Decides one event against the state that all earlier events of its partition left.
#[must_use]
pub fn decide(state: &SaleState, event: &Event) -> Option<Decision> {
    match &event.body {
        EventBody::SaleScheduled(e) => state.sale.is_none().then(|| Decision::SaleScheduled {
            terms: e.terms.clone(),
        }),
        EventBody::SaleClosed => state
            .sale
            .as_ref()
            .is_some_and(|sale| sale.closed.is_none())
            .then_some(Decision::SaleClosed),
        EventBody::StockAdjusted(e) => adjust(state, event, e),
        EventBody::SaleReloaded(e) => reload(state, e),
        EventBody::SeckillReserved(e) => reserve(state, event.occurred_at, e),
        EventBody::OrderPaid(e) => pay(state, e),
        EventBody::OrderCancelled(e) => cancel(state, e),
        EventBody::OrderExpired(e) => expire(state, e),
        // This event is about a record, not about the sale. The fold has skipped that record before.
        EventBody::RecordSkipped(_) => None,
    }
}

fn adjust(state: &SaleState, event: &Event, e: &StockAdjusted) -> Option<Decision> {
    if state.adjustments.contains_key(&event.event_id) {
        return None;
    }
    let accepted = state.sale.as_ref().is_some_and(|sale| {
        let left = sale.available.checked_add(e.delta);
        let total = (sale.terms.stock.checked_add(sale.adjusted))
            .and_then(|total| total.checked_add(e.delta));
        let fits = left.is_some_and(|left| left >= 0) && total.is_some();
        // When an epoch ends, the units that were taken in it are free again.
        let current = e.delta > 0 || e.epoch.is_some_and(|epoch| epoch >= sale.epoch);
        fits && current
    });
    Some(Decision::StockAdjusted {
        delta: e.delta,
        accepted,
    })
}

fn reload(state: &SaleState, e: &SaleReloaded) -> Option<Decision> {
    if state.reloads.contains_key(&e.nonce) {
        return None;
    }
    let accepted = state
        .sale
        .as_ref()
        .is_some_and(|sale| sale.epoch == e.previous && e.epoch == e.previous.next());
    Some(Decision::SaleReloaded {
        nonce: e.nonce,
        epoch: e.epoch,
        accepted,
    })
}

fn reserve(state: &SaleState, at: Timestamp, e: &SeckillReserved) -> Option<Decision> {
    if state.orders.contains_key(&e.order_id) {
        return None;
    }
    let refusal = match &state.sale {
        None => Some(RejectReason::UnknownSale),
        Some(_) if state.live.contains_key(&e.user_id) => Some(RejectReason::AlreadyOrdered),
        Some(sale) if e.epoch < sale.epoch => Some(RejectReason::StaleEpoch),
        Some(sale) if sale.available < i64::from(e.quantity) => Some(RejectReason::OutOfStock),
        Some(_) => None,
    };
    let order = Order {
        order_id: e.order_id,
        user_id: e.user_id,
        quantity: e.quantity,
        amount: e.price.times(e.quantity),
        status: if refusal.is_some() {
            OrderStatus::Rejected
        } else {
            OrderStatus::Unpaid
        },
        rejected: refusal,
        reserved_at: at,
        pay_by: e.pay_by,
        key_hash: e.key_hash,
        reserved_offset: Offset::new(0),
        closed: None,
        payment_id: None,
    };
    Some(if refusal.is_some() {
        Decision::OrderRejected { order }
    } else {
        Decision::OrderReserved { order }
    })
}

fn pay(state: &SaleState, e: &OrderPaid) -> Option<Decision> {
    if state.payments.contains_key(&e.payment_id) {
        return None;
    }
    let refusal = match state.orders.get(&e.order_id) {
        None => Some(RefundReason::UnknownOrder),
        Some(order) => match order.status {
            OrderStatus::Unpaid if order.amount != e.amount => Some(RefundReason::WrongAmount),
            OrderStatus::Unpaid => None,
            OrderStatus::Paid => Some(RefundReason::AlreadyPaid),
            OrderStatus::Expired => Some(RefundReason::OrderExpired),
            OrderStatus::Cancelled => Some(RefundReason::OrderCancelled),
            OrderStatus::Rejected => Some(RefundReason::OrderRejected),
        },
    };
    Some(match refusal {
        None => Decision::OrderPaid {
            order_id: e.order_id,
            payment_id: e.payment_id.clone(),
        },
        Some(reason) => Decision::RefundDue {
            order_id: e.order_id,
            payment_id: e.payment_id.clone(),
            amount: e.amount,
            reason,
        },
    })
}

fn cancel(state: &SaleState, e: &OrderCancelled) -> Option<Decision> {
    let order = state.orders.get(&e.order_id)?;
    let open = order.status == OrderStatus::Unpaid && order.user_id == e.user_id;
    open.then_some(Decision::OrderCancelled {
        order_id: e.order_id,
    })
}

fn expire(state: &SaleState, e: &OrderExpired) -> Option<Decision> {
    let order = state.orders.get(&e.order_id)?;
    (order.status == OrderStatus::Unpaid).then_some(Decision::OrderExpired {
        order_id: e.order_id,
    })
}
