//! One sale in a random history: the log about it, the fold of it, and the model beside Redis.

use std::cmp::Reverse;

use seckill_domain::{
    AdjustmentRow, Decision, Epoch, Event, EventBody, Offset, OrderId, OrderStatus, SaleScheduled,
    SaleState, StockOp, Timestamp, UserId, VoucherId, effects_of_adjustment, effects_of_order,
    effects_of_sale,
};
use seckill_script_model::{Rules, Sale as ModelSale, SaleTokens};
use seckill_stock::{
    LoadHold, LoadReply, LoadShrink, OpenReply, OutboxCursor, PendingEvent, Probe, ReserveRequest,
    Stock,
};
use uuid::Uuid;

use crate::harness::{PROMISE, event, sale, user};

pub(crate) const USERS: i64 = 4;
const INITIAL_STOCK: i64 = 6;

/// A sale, the log about it, and all that was said of it.
pub(crate) struct RandomSale<'a> {
    pub(crate) stock: &'a Stock,
    pub(crate) voucher: VoucherId,
    pub(crate) model: ModelSale,
    pub(crate) tokens: SaleTokens,
    pub(crate) rules: Rules,
    pub(crate) log: Vec<Event>,
    pub(crate) state: SaleState,
    pub(crate) folded: usize,
    pub(crate) adjustments: Vec<AdjustmentRow>,
    pub(crate) granted: Vec<PendingEvent>,
    pub(crate) last_batch: Vec<ReserveRequest>,
    pub(crate) ids: u64,
}

impl<'a> RandomSale<'a> {
    pub(crate) async fn begin(stock: &'a Stock, voucher: VoucherId, rules: Rules) -> Self {
        let mut before = sale(INITIAL_STOCK);
        before.terms.requires_sale_token = voucher.get() % 2 == 0;
        let terms = before.terms.clone();
        let mut world = Self {
            stock,
            voucher,
            model: ModelSale::begin(&before, Offset::new(0)),
            tokens: SaleTokens::default(),
            rules,
            log: Vec::new(),
            state: SaleState::default(),
            folded: 0,
            adjustments: Vec::new(),
            granted: Vec::new(),
            last_batch: Vec::new(),
            ids: 0,
        };
        world.append(EventBody::SaleScheduled(SaleScheduled { terms }));
        world.fold(1);
        world.load().await;
        world
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn order_id(&mut self) -> OrderId {
        let number = self.next_id();
        OrderId::from_parts(self.voucher, 1, number)
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.state.sale.as_ref().unwrap().epoch
    }

    pub(crate) fn append(&mut self, body: EventBody) {
        let event_id = event(u128::from(self.next_id()));
        self.log.push(Event {
            event_id,
            voucher_id: self.voucher,
            occurred_at: Timestamp::from_micros(0),
            body,
        });
    }

    pub(crate) fn known_order(&self, pick: usize) -> Option<(OrderId, UserId)> {
        let mut orders: Vec<_> = self.state.orders.values().collect();
        orders.sort_by_key(|order| order.order_id);
        let order = orders.get(pick % orders.len().max(1))?;
        Some((order.order_id, order.user_id))
    }

    pub(crate) fn fold(&mut self, count: usize) {
        // A retry comes within moments of its call: not after the log has decided and another order
        // of the user has come and gone.
        self.last_batch.clear();
        for _ in 0..count.min(self.log.len() - self.folded) {
            let event = &self.log[self.folded];
            let offset = Offset::new(i64::try_from(self.folded).unwrap());
            let decision = self.state.fold(offset, event);
            if let Some(Decision::StockAdjusted { delta, accepted }) = decision {
                self.adjustments.push(AdjustmentRow {
                    event_id: event.event_id,
                    voucher_id: self.voucher,
                    delta,
                    accepted,
                    offset,
                });
            }
            self.folded += 1;
        }
    }

    pub(crate) fn ops(&self, from: i64, to: i64) -> Vec<(Offset, StockOp)> {
        let orders = self.state.orders.values().flat_map(effects_of_order);
        let adjustments = self.adjustments.iter().map(effects_of_adjustment);
        let sale = self.state.sale.iter().flat_map(effects_of_sale);
        let effects = orders.chain(adjustments).chain(sale);
        let range = Offset::new(from)..Offset::new(to);
        let mut ops: Vec<_> = effects
            .filter(|effect| range.contains(&effect.offset))
            .filter_map(|effect| Some((effect.offset, effect.stock?)))
            .collect();
        ops.sort_by_key(|(offset, _)| *offset);
        ops
    }

    pub(crate) async fn load(&mut self) {
        let nonce = Uuid::from_u128(u128::from(self.next_id()));
        let position = Offset::new(i64::try_from(self.folded).unwrap());
        let (voucher, sale) = (self.voucher, self.state.sale.clone().unwrap());
        let connection = self.stock.connection_for(voucher).await.unwrap();
        connection.claim(voucher, nonce, sale.epoch).await.unwrap();
        let old = connection
            .old_outbox(voucher, nonce, OutboxCursor::START)
            .await;
        let old = old.unwrap().unwrap().entries;
        connection
            .load_begin(nonce, &sale, position, PROMISE)
            .await
            .unwrap();
        let holds = self.orders_of_buyers();
        for chunk in holds.chunks(500) {
            connection.load_holds(voucher, nonce, chunk).await.unwrap();
        }
        let shrinks = self.decided_shrinks();
        let loaded = connection.load_shrinks(voucher, nonce, &shrinks).await;
        assert_eq!(loaded.unwrap(), LoadReply::Loaded);
        let unknown: Vec<_> = old
            .into_iter()
            .filter(|pending| !self.in_rows(pending))
            .collect();
        connection.regrant(voucher, nonce, &unknown).await.unwrap();
        let opened = connection.open(voucher, nonce).await.unwrap();
        assert_eq!(opened, OpenReply::Opened);
        self.model = ModelSale::begin(&sale, position);
        self.model.load_holds(&holds);
        self.model.load_shrinks(&shrinks);
        self.model.regrant(&self.rules, &unknown);
        self.granted.extend(self.model.outbox.values().cloned());
    }

    /// Each buyer's: first the one that is the buyer's hold, then those of which only the key matters.
    fn orders_of_buyers(&self) -> Vec<LoadHold> {
        let mut orders: Vec<_> = self.state.orders.values().collect();
        orders.sort_by_key(|order| {
            let rejected = order.status == OrderStatus::Rejected;
            let newest_first = Reverse(order.reserved_offset);
            (
                order.user_id,
                !order.status.is_live(),
                rejected,
                newest_first,
            )
        });
        let mut loaded: Vec<LoadHold> = Vec::new();
        for order in orders {
            let of_user = loaded.iter().filter(|hold| hold.user_id == order.user_id);
            let keys: Vec<_> = of_user.map(|hold| hold.key_hash).collect();
            let is_earlier = !keys.is_empty();
            if !is_earlier || !keys.contains(&order.key_hash) {
                loaded.push(LoadHold::of(order, is_earlier));
            }
        }
        loaded
    }

    fn decided_shrinks(&self) -> Vec<LoadShrink> {
        let shrinks = self.adjustments.iter().filter(|row| row.delta < 0);
        let shrinks = shrinks.map(|row| LoadShrink {
            event_id: row.event_id,
            units: -row.delta,
        });
        shrinks.collect()
    }

    pub(crate) fn in_rows(&self, pending: &PendingEvent) -> bool {
        match pending {
            PendingEvent::Reservation(it) => self.state.orders.contains_key(&it.order_id),
            PendingEvent::Shrink(it) => self.state.adjustments.contains_key(&it.event_id),
        }
    }

    /// Redis is what the model says.
    pub(crate) async fn compare(&self) {
        let Probe::Open(view) = self.stock.probe(self.voucher).await.unwrap() else {
            panic!("not served");
        };
        let model = &self.model;
        assert!(model.adds_up(), "{model:?}");
        assert_eq!(view.stock, model.stock, "stock");
        assert_eq!(view.held, model.held, "held");
        assert_eq!(view.unsettled, model.unsettled, "unsettled");
        assert_eq!(view.epoch, model.epoch, "epoch");
        assert_eq!(view.position, model.position, "position");
        assert_eq!(view.sale_closed, model.closed, "closed");
        for number in 1..=USERS {
            let (_, hold) = self.stock.hold(self.voucher, user(number)).await.unwrap();
            let found = hold.map(|h| (h.order_id, h.quantity, h.state, h.key_hash, h.pay_by));
            let expected = model.holds.get(&user(number));
            let expected = expected.map(|h| (h.order_id, h.units, h.state, h.key_hash, h.pay_by));
            assert_eq!(found, expected, "hold of user {number}");
        }
        let start = OutboxCursor::START;
        let page = self
            .stock
            .outbox(self.voucher, std::time::Duration::ZERO, start)
            .await;
        let mut pending = page.unwrap().unwrap().entries;
        pending.sort_by_key(|event| event.ack().id);
        let expected: Vec<_> = model.outbox.values().cloned().collect();
        assert_eq!(pending, expected);
    }
}
