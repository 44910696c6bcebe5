//! Random logs, with duplicates and several vouchers interleaved, keep the invariants.
//!
//! Writers of `OrderCancelled` and `OrderExpired` name an order that they read from the view, so
//! these come after their reservation; payments may come at any time, also before it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::prelude::*;
use seckill_domain::{
    AdjustmentRow, Effect, Epoch, Event, EventBody, EventId, Money, Offset, OrderCancelled,
    OrderExpired, OrderId, OrderPaid, OrderStatus, PaymentId, Reason, SaleReloaded, SaleScheduled,
    SaleState, SeckillReserved, StockAdjusted, StockOp, Terms, Timestamp, Title, UserId, VoucherId,
    effects_of_adjustment, effects_of_order, effects_of_refund, effects_of_sale,
};
use uuid::Uuid;

const VOUCHERS: i64 = 3;
const USERS: i64 = 4;
const ORDERS: u64 = 8;

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        order: u64,
        user: i64,
        quantity: u32,
        epochs_back: i64,
    },
    Pay {
        order: u64,
        payment: u8,
        right_amount: bool,
    },
    Cancel {
        order: u64,
        user: i64,
    },
    Expire {
        order: u64,
    },
    Adjust {
        delta: i64,
        epochs_back: i64,
    },
    Reload {
        epochs_back: i64,
    },
    Close,
}

fn step() -> impl Strategy<Value = (i64, Step)> {
    let back = || prop_oneof![8 => Just(0_i64), 1 => Just(1)];
    let step = prop_oneof![
        8 => (0..ORDERS, 1..=USERS, 1..=2_u32, back()).prop_map(
            |(order, user, quantity, epochs_back)| Step::Reserve { order, user, quantity, epochs_back }
        ),
        4 => (0..ORDERS, any::<u8>(), prop::bool::weighted(0.8)).prop_map(
            |(order, payment, right_amount)| Step::Pay { order, payment: payment % 12, right_amount }
        ),
        2 => (0..ORDERS, 1..=USERS).prop_map(|(order, user)| Step::Cancel { order, user }),
        3 => (0..ORDERS).prop_map(|order| Step::Expire { order }),
        2 => ((-2..=2_i64).prop_filter("not 0", |d| *d != 0), back())
            .prop_map(|(delta, epochs_back)| Step::Adjust { delta, epochs_back }),
        1 => back().prop_map(|epochs_back| Step::Reload { epochs_back }),
        1 => Just(Step::Close),
    ];
    (1..=VOUCHERS, step)
}

fn price() -> Money {
    Money::new(100, "EUR".parse().unwrap()).unwrap()
}

fn order_id(voucher: VoucherId, n: u64) -> OrderId {
    OrderId::from_parts(voucher, 1, n)
}

fn user_id(n: i64) -> UserId {
    UserId::new(n).unwrap()
}

/// The log as its writers could have written it: epochs and amounts as the view showed them.
fn log_of(steps: &[(i64, Step)]) -> Vec<Event> {
    let mut view = Book::default();
    let mut log = Vec::new();
    for voucher in 1..=VOUCHERS {
        let body = EventBody::SaleScheduled(SaleScheduled { terms: terms() });
        write(&mut log, &mut view, voucher, body);
    }
    for (voucher, step) in steps {
        if let Some(body) = body_of(&view, VoucherId::new(*voucher).unwrap(), step, log.len()) {
            write(&mut log, &mut view, *voucher, body);
        }
    }
    log
}

fn write(log: &mut Vec<Event>, view: &mut Book, voucher: i64, body: EventBody) {
    let number = log.len();
    let event = Event {
        event_id: EventId::from_uuid(Uuid::from_u128(number as u128)),
        voucher_id: VoucherId::new(voucher).unwrap(),
        occurred_at: Timestamp::from_micros(number.try_into().unwrap()),
        body,
    };
    view.fold(number, &event);
    log.push(event);
}

fn terms() -> Terms {
    Terms {
        title: Title::new("A title").unwrap(),
        price: price(),
        stock: 3,
        max_quantity: 2,
        opens_at: Timestamp::from_micros(0),
        closes_at: Timestamp::from_micros(1),
        hold_seconds: 5,
        requires_sale_token: false,
    }
}

fn body_of(view: &Book, voucher: VoucherId, step: &Step, number: usize) -> Option<EventBody> {
    let state = &view.0[&voucher];
    let epoch_back = |n: i64| Epoch::new(state.sale.as_ref().unwrap().epoch.get() - n);
    Some(match step {
        Step::Reserve {
            order,
            user,
            quantity,
            epochs_back,
        } => EventBody::SeckillReserved(SeckillReserved {
            order_id: order_id(voucher, *order),
            user_id: user_id(*user),
            quantity: *quantity,
            price: price(),
            pay_by: Timestamp::from_micros(9),
            epoch: epoch_back(*epochs_back),
            key_hash: None,
        }),
        Step::Pay {
            order,
            payment,
            right_amount,
        } => {
            let id = order_id(voucher, *order);
            let amount = state.orders.get(&id).map_or(price(), |o| o.amount);
            EventBody::OrderPaid(OrderPaid {
                order_id: id,
                payment_id: PaymentId::new(format!("p{payment}")).unwrap(),
                amount: if *right_amount {
                    amount
                } else {
                    amount.times(7)
                },
                paid_at: Timestamp::from_micros(3),
            })
        }
        Step::Cancel { order, user } => {
            let id = order_id(voucher, *order);
            state.orders.get(&id)?;
            EventBody::OrderCancelled(OrderCancelled {
                order_id: id,
                user_id: user_id(*user),
            })
        }
        Step::Expire { order } => {
            let order = state.orders.get(&order_id(voucher, *order))?;
            EventBody::OrderExpired(OrderExpired {
                order_id: order.order_id,
                pay_by: order.pay_by,
            })
        }
        Step::Adjust { delta, epochs_back } => EventBody::StockAdjusted(StockAdjusted {
            delta: *delta,
            reason: Reason::new("count").unwrap(),
            epoch: (*delta < 0).then(|| epoch_back(*epochs_back)),
        }),
        Step::Reload { epochs_back } => EventBody::SaleReloaded(SaleReloaded {
            previous: epoch_back(*epochs_back),
            epoch: epoch_back(*epochs_back).next(),
            nonce: Uuid::from_u128(number as u128),
            first: None,
        }),
        Step::Close => EventBody::SaleClosed,
    })
}

#[derive(Debug, Default, PartialEq, Clone)]
struct Book(BTreeMap<VoucherId, SaleState>);

impl Book {
    fn fold(&mut self, offset: usize, event: &Event) -> bool {
        let offset = Offset::new(offset.try_into().unwrap());
        let state = self.0.entry(event.voucher_id).or_default();
        state.fold(offset, event).is_some()
    }
}

/// Everything that must hold of one sale at any time, counted afresh from its orders.
fn check_invariants(state: &SaleState, seen: &HashSet<PaymentId>) {
    let sale = state.sale.as_ref().unwrap();
    let units = |status| -> i64 {
        let of_status = state.orders.values().filter(|o| o.status == status);
        of_status.map(|o| i64::from(o.quantity)).sum()
    };
    let (unpaid, paid) = (units(OrderStatus::Unpaid), units(OrderStatus::Paid));
    assert_eq!((sale.unpaid, sale.paid), (unpaid, paid));
    assert!(sale.available >= 0);
    assert_eq!(
        sale.terms.stock + sale.adjusted,
        sale.available + unpaid + paid
    );
    let mut live = HashMap::new();
    for order in state.orders.values().filter(|o| o.status.is_live()) {
        assert_eq!(
            live.insert(order.user_id, order.order_id),
            None,
            "two live orders"
        );
    }
    assert_eq!(live, state.live);
    for payment in seen {
        let honoured = state
            .orders
            .values()
            .filter(|o| o.payment_id.as_ref() == Some(payment));
        let refunded = state.refunds.iter().filter(|r| r.payment_id == *payment);
        assert_eq!(honoured.count() + refunded.count(), 1, "{payment}");
    }
}

/// What Redis would hold if it learnt exactly the effects, from nothing but them.
fn stock_by_effects(state: &SaleState, effects: &[Effect]) -> i64 {
    let mut left = state.sale.as_ref().unwrap().terms.stock;
    let mut held: HashMap<OrderId, i64> = HashMap::new();
    for effect in effects {
        match &effect.stock {
            Some(StockOp::Confirm {
                order_id, quantity, ..
            }) => {
                left -= i64::from(*quantity);
                held.insert(*order_id, i64::from(*quantity));
            }
            Some(StockOp::Release { order_id, .. }) => left += held.remove(order_id).unwrap_or(0),
            Some(StockOp::Restock { units }) => left += units,
            Some(StockOp::ShrinkKept { units, .. }) => left -= units,
            Some(StockOp::ShrinkReturned { .. } | StockOp::Close) | None => {}
        }
        assert!(left >= 0);
    }
    left
}

fn effects_of(state: &SaleState, log: &[Event]) -> Vec<Effect> {
    let adjustments = log.iter().enumerate().filter_map(|(n, event)| {
        let EventBody::StockAdjusted(e) = &event.body else {
            return None;
        };
        Some(AdjustmentRow {
            event_id: event.event_id,
            voucher_id: event.voucher_id,
            delta: e.delta,
            accepted: *state.adjustments.get(&event.event_id)?,
            offset: Offset::new(n.try_into().unwrap()),
        })
    });
    let mut effects: Vec<_> = adjustments.map(|row| effects_of_adjustment(&row)).collect();
    effects.extend(state.orders.values().flat_map(effects_of_order));
    effects.extend(state.refunds.iter().map(effects_of_refund));
    effects.extend(state.sale.iter().flat_map(effects_of_sale));
    effects.sort_by_key(|e| e.offset);
    effects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_prefix_of_a_log_keeps_the_invariants(steps in prop::collection::vec(step(), 0..80)) {
        let log = log_of(&steps);
        let mut book = Book::default();
        let mut seen: HashMap<VoucherId, HashSet<PaymentId>> = HashMap::new();
        for (offset, event) in log.iter().enumerate() {
            let before = book.clone();
            let decided = book.fold(offset, event);
            prop_assert_eq!(decided, book != before, "a decision is a change");
            if let EventBody::OrderPaid(e) = &event.body {
                seen.entry(event.voucher_id).or_default().insert(e.payment_id.clone());
            }
            for (id, after) in &book.0 {
                check_invariants(after, seen.get(id).unwrap_or(&HashSet::new()));
            }
            for (id, earlier) in &before.0 {
                for (order, row) in earlier.orders.iter().filter(|(_, o)| o.status.is_final()) {
                    prop_assert_eq!(row, &book.0[id].orders[order], "a final order changed");
                }
            }
        }
    }

    #[test]
    fn duplicates_change_nothing(
        steps in prop::collection::vec(step(), 0..60),
        repeats in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let log = log_of(&steps);
        let mut plain = Book::default();
        for (offset, event) in log.iter().enumerate() {
            plain.fold(offset, event);
        }
        // (place, tie-break, offset, event): a repeat stands anywhere after its original.
        let mut order: Vec<(usize, bool, usize)> = (0..log.len()).map(|n| (n, false, n)).collect();
        for (original, later) in &repeats {
            let original = original.index(log.len());
            order.push((original + later.index(log.len() - original), true, original));
        }
        order.sort();
        let mut doubled = Book::default();
        for (_, repeat, original) in order {
            let decided = doubled.fold(original, &log[original]);
            prop_assert!(!(repeat && decided), "a repeat was decided: {:?}", log[original]);
        }
        prop_assert_eq!(plain, doubled);
    }

    #[test]
    fn the_effects_alone_give_the_stock(steps in prop::collection::vec(step(), 0..80)) {
        let log = log_of(&steps);
        let mut book = Book::default();
        for (offset, event) in log.iter().enumerate() {
            book.fold(offset, event);
        }
        for (id, state) in &book.0 {
            let own: Vec<_> = effects_of(state, &log).into_iter().filter(|e| e.voucher_id == *id).collect();
            prop_assert_eq!(stock_by_effects(state, &own), state.sale.as_ref().unwrap().available);
            for pair in own.windows(2) {
                prop_assert!(pair[0].offset < pair[1].offset, "one effect an offset");
            }
        }
    }
}
