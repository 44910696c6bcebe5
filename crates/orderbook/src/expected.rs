//! What the tables have to hold: the log folded in memory, by the very code that folds it into them.

use std::collections::HashMap;

use seckill_domain::{Decision, Event, Offset, Order, OrderId, VoucherId};

use crate::apply::{Adjustment, Changes, Reload, fold_one};
use crate::sale_rows::SaleRows;
use crate::working_set::WorkingSet;

/// The order book as the log says it is, in memory: for comparing tables or Redis with the log.
///
/// Feed it the events of each partition from the log's first record on, in their order, up to the
/// position at which the other side was read, and compare [`Self::rows`] with
/// [`crate::BookSnapshot::rows`]. Restrict it to some vouchers by feeding only theirs. Leave out what
/// every fold passes over: malformed records, and those that an operator has decided about.
///
/// Takes a few hundred bytes an order.
#[derive(Debug, Default)]
pub struct ExpectedBook {
    states: WorkingSet,
    changes: Changes,
    positions: HashMap<i32, Offset>,
}

impl ExpectedBook {
    /// Decides one event, and says what it changed. An event below the partition's position was
    /// decided before, and changes nothing.
    pub fn fold(&mut self, partition: i32, offset: Offset, event: &Event) -> Option<Decision> {
        let position = self.positions.entry(partition).or_insert(Offset::new(0));
        if offset < *position {
            return None;
        }
        *position = offset.next();
        fold_one(&mut self.states, &mut self.changes, offset, event)
    }

    /// The offset after the last event of this partition; 0 before the first.
    #[must_use]
    pub fn position(&self, partition: i32) -> Offset {
        let known = self.positions.get(&partition).copied();
        known.unwrap_or(Offset::new(0))
    }

    /// Every voucher that an event named, ascending.
    #[must_use]
    pub fn vouchers(&self) -> Vec<VoucherId> {
        let mut vouchers: Vec<_> = self.states.keys().copied().collect();
        vouchers.sort_unstable();
        vouchers
    }

    /// Whether an event says that Redis has had the sale.
    #[must_use]
    pub fn was_in_redis(&self, voucher: VoucherId) -> bool {
        self.changes.sales.get(&voucher).copied().unwrap_or(false)
    }

    /// One order, if an event made it.
    #[must_use]
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.states.get(&id.voucher_id())?.orders.get(&id)
    }

    /// How many orders there are, of all sales.
    #[must_use]
    pub fn order_count(&self) -> usize {
        self.states.values().map(|state| state.orders.len()).sum()
    }

    /// The sale's rows. Empty for a voucher that no event named.
    #[must_use]
    pub fn rows(&self, voucher: VoucherId) -> SaleRows {
        let Some(state) = self.states.get(&voucher) else {
            return SaleRows::default();
        };
        let mut orders: Vec<_> = state.orders.values().cloned().collect();
        orders.sort_unstable_by_key(|order| order.order_id);
        let adjustments = self.changes.adjustments.iter();
        let reloads = self.changes.reloads.iter();
        SaleRows {
            sale: state.sale.clone(),
            orders,
            refunds: state.refunds.clone(),
            adjustments: adjustments
                .filter(|row: &&Adjustment| row.voucher_id == voucher)
                .cloned()
                .collect(),
            reloads: reloads
                .filter(|row: &&Reload| row.voucher_id == voucher)
                .cloned()
                .collect(),
        }
    }
}
