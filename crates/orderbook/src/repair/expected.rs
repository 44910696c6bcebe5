//! What the tables should have: the log folded in memory by the same code that folds it into the tables.

use std::collections::HashMap;

use seckill_domain::{
    Decision, Epoch, Event, Offset, Order, OrderId, OrderStatus, PaymentFate, Sale, SaleState,
    VoucherId,
};

use crate::fold::apply::{Adjustment, Changes, Reload, fold_one};
use crate::fold::sale_rows::SaleRows;
use crate::fold::working_set::WorkingSet;

/// The order book as the log says it is, in memory: for comparing tables or Redis with the log.
///
/// Feed it the events of each partition from the log's first record on, in their order, up to the
/// position at which the other side was read, and compare [`Self::rows`] with
/// [`crate::BookSnapshot::rows`]. Restrict it to some vouchers by feeding only theirs. Leave out what
/// every fold passes over: malformed records, and those that an operator has decided about.
///
/// Where the log lacks what the tables have folded ([`crate::AcceptedLog`]), [`Self::begin_at`] says from where
/// on it is folded, and [`Self::take_over`] what there was before.
///
/// Takes a few hundred bytes an order.
#[derive(Debug, Default)]
pub struct ExpectedBook {
    states: WorkingSet,
    changes: Changes,
    positions: HashMap<i32, Offset>,
}

impl ExpectedBook {
    /// Events of this partition below `from` are not decided: what they came to is taken over.
    pub fn begin_at(&mut self, partition: i32, from: Offset) {
        self.positions.insert(partition, from);
    }

    /// Takes over a sale from its rows, as it was at `from`, before any event of it is folded. Whether these
    /// rows are correct cannot be checked.
    pub fn take_over(&mut self, voucher: VoucherId, rows: SaleRows, from: Offset) {
        let rows = rows.rewound_to(from);
        let was_in_redis = !rows.orders.is_empty() || rows.reloads.iter().any(|r| r.accepted);
        if was_in_redis {
            self.changes.sales.insert(voucher, true);
        }
        let mut state = SaleState {
            sale: rows.sale,
            ..SaleState::default()
        };
        for order in rows.orders {
            if order.status.is_live() {
                state.live.insert(order.user_id, order.order_id);
            }
            if let Some(payment) = &order.payment_id {
                let honoured = PaymentFate::Honoured;
                state.payments.insert(payment.clone(), honoured);
            }
            state.orders.insert(order.order_id, order);
        }
        for refund in &rows.refunds {
            let due = PaymentFate::RefundDue;
            state.payments.insert(refund.payment_id.clone(), due);
        }
        state.refunds = rows.refunds;
        let adjustments = rows.adjustments.iter();
        state.adjustments = adjustments.map(|a| (a.event_id, a.accepted)).collect();
        let reloads = rows.reloads.iter();
        state.reloads = reloads.map(|r| (r.nonce, r.accepted)).collect();
        self.changes.adjustments.extend(rows.adjustments);
        self.changes.reloads.extend(rows.reloads);
        self.states.insert(voucher, state);
    }

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

impl SaleRows {
    /// The rows without what records at `from` or behind it have made of them. The sale's numbers are counted
    /// from the others.
    fn rewound_to(mut self, from: Offset) -> Self {
        self.orders.retain(|order| order.reserved_offset < from);
        let later = |order: &&mut Order| order.closed.is_some_and(|(_, at)| at >= from);
        for order in self.orders.iter_mut().filter(later) {
            order.status = OrderStatus::Unpaid;
            (order.closed, order.payment_id) = (None, None);
        }
        self.refunds.retain(|refund| refund.offset < from);
        self.adjustments.retain(|row| row.offset < from);
        self.reloads.retain(|row| row.offset < from);
        self.sale = self.sale.take().filter(|s| s.scheduled_offset < from);
        let counted = self.sale.take().map(|sale| self.counted(sale, from));
        self.sale = counted;
        self
    }

    fn counted(&self, sale: Sale, from: Offset) -> Sale {
        let units = |status| -> i64 {
            let orders = self.orders.iter().filter(|order| order.status == status);
            orders.map(|order| i64::from(order.quantity)).sum()
        };
        let (unpaid, paid) = (units(OrderStatus::Unpaid), units(OrderStatus::Paid));
        let accepted = self.adjustments.iter().filter(|row| row.accepted);
        let adjusted: i64 = accepted.map(|row| row.delta).sum();
        let reloads = self.reloads.iter().filter(|row| row.accepted);
        Sale {
            adjusted,
            available: sale.terms.stock + adjusted - unpaid - paid,
            unpaid,
            paid,
            epoch: reloads.map(|row| row.epoch).max().unwrap_or(Epoch::FIRST),
            closed: sale.closed.filter(|(_, at)| *at < from),
            ..sale
        }
    }
}
