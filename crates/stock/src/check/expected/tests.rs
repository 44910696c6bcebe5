//! What is expected at an earlier position is what the fold said there.

use std::collections::HashMap;

use proptest::prelude::*;
use seckill_domain::{
    Decision, Epoch, Event, EventBody, EventId, Offset, OrderCancelled, OrderExpired, OrderId,
    OrderPaid, OrderStatus, PaymentId, Reason, SaleScheduled, SaleState, SeckillReserved,
    StockAdjusted, Timestamp, UserId,
};
use uuid::Uuid;

use super::ExpectedSale;
use crate::check::samples::{ended, euros, order, order_id, sale, terms, user, voucher};

const USERS: i64 = 4;

#[derive(Debug, Clone)]
enum Step {
    Reserve(i64, u32),
    /// Of the order with this number, if there is one by then.
    Pay(u64),
    Cancel(u64),
    Expire(u64),
    Adjust(i64),
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0..12_u64;
    let step = prop_oneof![
        4 => (1..=USERS, 1..4_u32).prop_map(|(user, units)| Step::Reserve(user, units)),
        2 => number().prop_map(Step::Pay),
        1 => number().prop_map(Step::Cancel),
        2 => number().prop_map(Step::Expire),
        1 => (-6..6_i64).prop_filter("no change", |n| *n != 0).prop_map(Step::Adjust),
        1 => Just(Step::Close),
    ];
    prop::collection::vec(step, 1..40)
}

/// Events as their writers make them: of an order that is named, the buyer is the one who has it.
fn body(step: &Step, made: &mut Vec<UserId>) -> Option<EventBody> {
    let buyer = |made: &[UserId], order: u64| made.get(usize::try_from(order).ok()?).copied();
    Some(match *step {
        Step::Reserve(of, quantity) => {
            made.push(user(of));
            EventBody::SeckillReserved(SeckillReserved {
                order_id: order_id(made.len() as u64 - 1),
                user_id: user(of),
                quantity,
                price: euros(500),
                pay_by: Timestamp::from_micros(1),
                epoch: Epoch::FIRST,
                key_hash: None,
            })
        }
        Step::Pay(order) => {
            buyer(made, order)?;
            EventBody::OrderPaid(OrderPaid {
                order_id: order_id(order),
                payment_id: PaymentId::new(format!("pay-{order}")).unwrap(),
                // Right for an order of one unit only: others are refunds due.
                amount: euros(500),
                paid_at: Timestamp::from_micros(1),
            })
        }
        Step::Cancel(order) => EventBody::OrderCancelled(OrderCancelled {
            order_id: order_id(order),
            user_id: buyer(made, order)?,
        }),
        Step::Expire(order) => {
            buyer(made, order)?;
            EventBody::OrderExpired(OrderExpired {
                order_id: order_id(order),
                pay_by: Timestamp::from_micros(1),
            })
        }
        Step::Adjust(delta) => EventBody::StockAdjusted(StockAdjusted {
            delta,
            reason: Reason::new("a test").unwrap(),
            epoch: (delta < 0).then_some(Epoch::FIRST),
        }),
        Step::Close => EventBody::SaleClosed,
    })
}

/// The state after each record, and the last of them as what is expected of Redis.
fn fold(steps: &[Step]) -> (Vec<SaleState>, ExpectedSale) {
    let scheduled = EventBody::SaleScheduled(SaleScheduled { terms: terms() });
    let mut made = Vec::new();
    let bodies = steps.iter().filter_map(|step| body(step, &mut made));
    let (mut state, mut states, mut adjustments) = (SaleState::default(), Vec::new(), Vec::new());
    for (offset, body) in (0..).zip(std::iter::once(scheduled).chain(bodies)) {
        let event = Event {
            event_id: EventId::from_uuid(Uuid::from_u128(offset)),
            voucher_id: voucher(),
            occurred_at: Timestamp::from_micros(1),
            body,
        };
        let offset = Offset::new(i64::try_from(offset).unwrap());
        let decision = state.fold(offset, &event);
        if let Some(Decision::StockAdjusted { delta, accepted }) = decision {
            adjustments.push((event.event_id, delta, accepted, offset));
        }
        states.push(state.clone());
    }
    let end = Offset::new(i64::try_from(states.len()).unwrap());
    let orders = state.orders.into_values();
    let expected = ExpectedSale::new(state.sale.unwrap(), end, orders, adjustments);
    (states, expected)
}

proptest! {
    #[test]
    fn every_position_of_a_random_log_is_known_from_its_end(steps in steps()) {
        let (states, expected) = fold(&steps);
        for (offset, state) in (0..).zip(&states) {
            let then = Offset::new(offset + 1);
            let sale = state.sale.as_ref().unwrap();
            prop_assert_eq!(expected.available_at(then), sale.available, "at {:?}", then);
            prop_assert_eq!(expected.closed_at(then), sale.closed.is_some());
            let live: HashMap<UserId, OrderId> = expected
                .live_at(then)
                .into_iter()
                .map(|(user, order)| (user, order.order_id))
                .collect();
            prop_assert_eq!(&live, &state.live);
            for number in 1..=USERS {
                let user = user(number);
                let of_user = expected.live_of(user, then).map(|order| order.order_id);
                prop_assert_eq!(of_user, state.live.get(&user).copied());
                // What has moved since is what differs between then and the end, or did in between.
                let last = states.last().unwrap();
                let orders_of = |state: &SaleState| {
                    let mut orders: Vec<_> =
                        state.orders.values().filter(|o| o.user_id == user).cloned().collect();
                    orders.sort_unstable_by_key(|order| order.order_id);
                    orders
                };
                let moved = orders_of(state) != orders_of(last);
                prop_assert_eq!(expected.moved_since(user, then), moved);
            }
        }
    }
}

#[test]
fn an_adjustment_is_found_by_its_event() {
    let event = |n| EventId::from_uuid(Uuid::from_u128(n));
    let adjustments = vec![
        (event(1), -2, true, Offset::new(5)),
        (event(2), -9, false, Offset::new(6)),
    ];
    let expected = ExpectedSale::new(sale(8), Offset::new(9), [], adjustments);
    let at = |n| expected.shrink(event(n));
    assert_eq!(
        (at(1), at(2), at(3)),
        (Some(Offset::new(5)), Some(Offset::new(6)), None)
    );
    // The refused one took nothing; the accepted one had not been taken before its own offset.
    for (then, available) in [(5, 10), (6, 8), (7, 8)] {
        assert_eq!(
            expected.available_at(Offset::new(then)),
            available,
            "{then}"
        );
    }
}

/// What a position includes: every record below it, and not the one at it.
#[test]
fn a_record_counts_from_the_offset_after_it() {
    for (status, live_after, free_after) in [
        (OrderStatus::Paid, true, 7),
        (OrderStatus::Expired, false, 10),
        (OrderStatus::Cancelled, false, 10),
    ] {
        let given_back = if live_after { 7 } else { 10 };
        let orders = [ended(order(1, 3, 20), status, 30)];
        let expected = ExpectedSale::new(sale(given_back), Offset::new(40), orders, Vec::new());
        for (then, live, free) in [
            (20, false, 10),
            (21, true, 7),
            (30, true, 7),
            (31, live_after, free_after),
            (40, live_after, free_after),
        ] {
            let then = Offset::new(then);
            assert_eq!(
                expected.live_of(user(1), then).is_some(),
                live,
                "{status:?} {then:?}"
            );
            assert_eq!(expected.available_at(then), free, "{status:?} {then:?}");
        }
        let moved = [19, 20, 21, 30, 31].map(|n| expected.moved_since(user(1), Offset::new(n)));
        assert_eq!(moved, [true, true, true, true, false], "{status:?}");
    }
}
