//! PostgreSQL: the fold's rows and the two positions. Every method is one transaction.

use seckill_domain::{
    AdjustmentRow, Decision, Effect, Epoch, Event, EventBody, Offset, Order, OrderId, OrderStatus,
    SaleState, effects_of_adjustment, effects_of_order, effects_of_refund, effects_of_sale,
};
use seckill_stock::LoadShrink;
use uuid::Uuid;

use crate::guards::Guards;

#[derive(Debug, Clone)]
pub(crate) struct Book {
    pub(crate) state: SaleState,
    /// In the order of the log.
    order_ids: Vec<OrderId>,
    pub(crate) adjustments: Vec<AdjustmentRow>,
    /// The position of the view `orders`.
    pub(crate) folded: Offset,
    /// The position of the view `effects`.
    pub(crate) effects: Offset,
    /// Whether Redis may ever have had the sale.
    pub(crate) loaded: bool,
    /// Whether the sale was removed from Redis permanently.
    pub(crate) retired: bool,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            state: SaleState::default(),
            order_ids: Vec::new(),
            adjustments: Vec::new(),
            folded: Offset::new(0),
            effects: Offset::new(0),
            loaded: false,
            retired: false,
        }
    }
}

impl Book {
    /// Folds a range of the log and moves the position.
    pub(crate) fn apply(&mut self, guards: &Guards, events: &[Event]) {
        for event in events {
            let offset = self.folded;
            let shown = self.shown(guards, event);
            if let Some(decision) = self.state.fold(offset, &shown) {
                self.note(offset, &shown, &decision);
            }
            self.folded = offset.next();
        }
    }

    /// Resets the rows to what another transaction has read, which continues from there. The flags and the position of
    /// the other view are separate rows and stay.
    pub(crate) fn restore_rows(&mut self, read: &Self, from: Offset) {
        self.state = read.state.clone();
        self.order_ids.clone_from(&read.order_ids);
        self.adjustments.clone_from(&read.adjustments);
        self.folded = from;
    }

    /// The event that the fold gets. If a guard of the domain is switched off, the event is changed so that the guard's
    /// rule does not apply to it.
    fn shown(&self, guards: &Guards, event: &Event) -> Event {
        let mut shown = event.clone();
        let now = self.epoch().unwrap_or(Epoch::FIRST);
        match &mut shown.body {
            EventBody::SeckillReserved(e) if !guards.epoch => e.epoch = e.epoch.max(now),
            EventBody::StockAdjusted(e) if !guards.epoch => {
                e.epoch = e.epoch.map(|epoch| epoch.max(now));
            }
            EventBody::SaleReloaded(e) if !guards.epoch_compare_and_set && e.epoch >= now => {
                (e.previous, e.epoch) = (now, now.next());
            }
            _ => {}
        }
        shown
    }

    fn note(&mut self, offset: Offset, event: &Event, decision: &Decision) {
        match decision {
            Decision::OrderReserved { order } => {
                self.order_ids.push(order.order_id);
                self.loaded = true;
            }
            Decision::OrderRejected { order } => self.order_ids.push(order.order_id),
            Decision::StockAdjusted { delta, accepted } => self.adjustments.push(AdjustmentRow {
                event_id: event.event_id,
                voucher_id: event.voucher_id,
                delta: *delta,
                accepted: *accepted,
                offset,
            }),
            Decision::SaleReloaded { accepted, .. } => self.loaded |= accepted,
            Decision::OrderPaid { .. }
            | Decision::OrderExpired { .. }
            | Decision::OrderCancelled { .. } => self.loaded = true,
            // The sale's own row and its refunds are in the state.
            _ => {}
        }
    }

    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.state.sale.as_ref().map(|sale| sale.epoch)
    }

    /// In the order of the log.
    pub(crate) fn orders(&self) -> impl DoubleEndedIterator<Item = &Order> {
        self.order_ids
            .iter()
            .filter_map(|id| self.state.orders.get(id))
    }

    pub(crate) fn unpaid(&self) -> Vec<&Order> {
        self.orders()
            .filter(|order| order.status == OrderStatus::Unpaid)
            .collect()
    }

    /// Whether a closed sale has no unpaid order: it can be retired.
    pub(crate) fn is_over(&self) -> bool {
        let sale = self.state.sale.as_ref();
        sale.is_some_and(|sale| sale.closed.is_some() && sale.unpaid == 0)
    }

    /// True if this was the first.
    pub(crate) fn mark_loaded(&mut self) -> bool {
        !std::mem::replace(&mut self.loaded, true)
    }

    pub(crate) fn move_effects(&mut self, to: Offset) {
        self.effects = self.effects.max(to);
    }

    pub(crate) fn knows(&self, id: Uuid) -> bool {
        OrderId::from_uuid(id).is_ok_and(|id| self.state.orders.contains_key(&id))
            || self.adjustments.iter().any(|a| a.event_id.as_uuid() == id)
    }

    /// The effects in `[from, to)`, from the rows alone.
    pub(crate) fn effects_between(&self, from: Offset, to: Offset) -> Vec<Effect> {
        let mut effects: Vec<Effect> = self.orders().flat_map(effects_of_order).collect();
        effects.extend(self.adjustments.iter().map(effects_of_adjustment));
        effects.extend(self.state.refunds.iter().map(effects_of_refund));
        effects.extend(self.state.sale.iter().flat_map(effects_of_sale));
        effects.retain(|effect| (from..to).contains(&effect.offset));
        effects.sort_unstable_by_key(|effect| effect.offset);
        effects
    }

    /// One order for each buyer, sorted by buyer: the live one; without it the last one with a key, preferably one that
    /// was not rejected; without such an order the last one that was not rejected.
    pub(crate) fn holds(&self) -> Vec<Order> {
        self.best_orders(|order| order.user_id)
    }

    /// The orders that are not in [`Self::holds`] and whose keys have to be kept. Of several orders of a buyer with the
    /// same key, only the one with which a request is answered.
    pub(crate) fn earlier(&self) -> Vec<Order> {
        let mut keyed = self.best_orders(|order| (order.user_id, order.key_hash));
        let holds: Vec<OrderId> = self.holds().iter().map(|order| order.order_id).collect();
        keyed.retain(|order| order.key_hash.is_some() && !holds.contains(&order.order_id));
        keyed
    }

    pub(crate) fn decided_shrinks(&self) -> Vec<LoadShrink> {
        let shrinks = self.adjustments.iter().filter(|row| row.delta < 0);
        let shrinks = shrinks.map(|row| LoadShrink {
            event_id: row.event_id,
            units: -row.delta,
        });
        shrinks.collect()
    }

    fn best_orders<K: Ord>(&self, of: impl Fn(&Order) -> K) -> Vec<Order> {
        let rank = |order: &Order| {
            let keyed = order.key_hash.is_some();
            let stood = order.status != OrderStatus::Rejected;
            (order.status.is_live(), keyed, stood, order.reserved_offset)
        };
        let mut best = std::collections::BTreeMap::<_, &Order>::new();
        for order in self.orders() {
            if order.status == OrderStatus::Rejected && order.key_hash.is_none() {
                continue;
            }
            let of_user = best.entry(of(order)).or_insert(order);
            if rank(order) > rank(of_user) {
                *of_user = order;
            }
        }
        best.into_values().cloned().collect()
    }
}
