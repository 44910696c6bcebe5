//! What Redis should have at an earlier position than the one at which the log's decisions were read.

use std::collections::HashMap;

use seckill_domain::{EventId, Offset, Order, OrderId, OrderStatus, Sale, UserId};

/// One sale as the log, or PostgreSQL, has it at `position`.
#[derive(Debug, Clone)]
pub struct ExpectedSale {
    sale: Sale,
    position: Offset,
    orders: HashMap<OrderId, Order>,
    of_user: HashMap<UserId, Vec<OrderId>>,
    adjustments: Vec<(EventId, i64, bool, Offset)>,
}

impl ExpectedSale {
    /// `adjustments`: event, units (negative for a shrink), whether accepted, and where decided.
    #[must_use]
    pub fn new(
        sale: Sale,
        position: Offset,
        orders: impl IntoIterator<Item = Order>,
        adjustments: Vec<(EventId, i64, bool, Offset)>,
    ) -> Self {
        let orders: HashMap<OrderId, Order> = orders.into_iter().map(|o| (o.order_id, o)).collect();
        let mut of_user: HashMap<UserId, Vec<OrderId>> = HashMap::new();
        for order in orders.values() {
            of_user
                .entry(order.user_id)
                .or_default()
                .push(order.order_id);
        }
        Self {
            sale,
            position,
            orders,
            of_user,
            adjustments,
        }
    }

    /// The sale, at the position it was read at.
    #[must_use]
    pub const fn sale(&self) -> &Sale {
        &self.sale
    }

    /// Where it was read.
    #[must_use]
    pub const fn position(&self) -> Offset {
        self.position
    }

    pub(crate) fn order(&self, id: OrderId) -> Option<&Order> {
        self.orders.get(&id)
    }

    /// Units that were free at `then`.
    pub(crate) fn available_at(&self, then: Offset) -> i64 {
        let taken: i64 = self
            .orders
            .values()
            .map(|o| units_taken_since(o, then))
            .sum();
        let added = self.adjustments.iter();
        let added = added.filter(|(_, _, accepted, offset)| *accepted && *offset >= then);
        self.sale.available + taken - added.map(|(_, delta, _, _)| delta).sum::<i64>()
    }

    /// Whether the sale was closed at `then`.
    pub(crate) fn closed_at(&self, then: Offset) -> bool {
        self.sale.closed.is_some_and(|(_, offset)| offset < then)
    }

    /// The orders that were live at `then`, by buyer.
    pub(crate) fn live_at(&self, then: Offset) -> HashMap<UserId, &Order> {
        let live = self.orders.values().filter(|o| is_live_at(o, then));
        live.map(|order| (order.user_id, order)).collect()
    }

    /// A buyer's order that was live at `then`.
    pub(crate) fn live_of(&self, user: UserId, then: Offset) -> Option<&Order> {
        let ids = self.of_user.get(&user)?;
        let mut orders = ids.iter().filter_map(|id| self.orders.get(id));
        orders.find(|order| is_live_at(order, then))
    }

    /// Whether the log has decided anything on this buyer's orders from `then` on.
    pub(crate) fn moved_since(&self, user: UserId, then: Offset) -> bool {
        let ids = self.of_user.get(&user).map_or(&[][..], Vec::as_slice);
        let mut orders = ids.iter().filter_map(|id| self.orders.get(id));
        orders.any(|order| {
            order.reserved_offset >= then || order.closed.is_some_and(|(_, at)| at >= then)
        })
    }

    /// What was decided of a shrink, and where.
    pub(crate) fn shrink(&self, event_id: EventId) -> Option<Offset> {
        let mut known = self.adjustments.iter();
        known.find(|(id, ..)| *id == event_id).map(|(.., at)| *at)
    }
}

const fn gives_units_back(status: OrderStatus) -> bool {
    matches!(status, OrderStatus::Expired | OrderStatus::Cancelled)
}

fn is_live_at(order: &Order, then: Offset) -> bool {
    let stood = order.rejected.is_none() && order.reserved_offset < then;
    let given_up = order.closed.is_some_and(|(_, at)| at < then) && gives_units_back(order.status);
    stood && !given_up
}

/// What the order's records from `then` on took off the free units.
fn units_taken_since(order: &Order, then: Offset) -> i64 {
    if order.rejected.is_some() {
        return 0;
    }
    let units = i64::from(order.quantity);
    let taken = if order.reserved_offset >= then {
        units
    } else {
        0
    };
    let back = order.closed.is_some_and(|(_, at)| at >= then) && gives_units_back(order.status);
    taken - if back { units } else { 0 }
}

#[cfg(test)]
mod tests;
