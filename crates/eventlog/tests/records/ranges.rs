//! One rule for the door and for the decoder: what an event may say can be read back, and what it
//! may not say is refused by both, for the same field.

use proptest::prelude::*;
use proptest::sample::select;
use seckill_domain::{
    Epoch, Event, EventBody, OrderCancelled, OrderExpired, OrderId, OrderPaid, PaymentId, Reason,
    SaleReloaded, SaleScheduled, SeckillReserved, StockAdjusted, Terms, Timestamp, Title, UserId,
    VoucherId,
};
use seckill_eventlog::{DecodeError, decode_event, encode_event};
use uuid::Uuid;

use crate::samples::{euros, event, reserved, scheduled, voucher};

const INT_MAX: u32 = i32::MAX.cast_unsigned();

fn moments() -> impl Strategy<Value = Timestamp> {
    let ends = select(vec![Timestamp::MIN, Timestamp::MAX]);
    let any = (Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros())
        .prop_map(|micros| Timestamp::new(micros).unwrap());
    prop_oneof![ends, any]
}

fn texts() -> impl Strategy<Value = String> {
    any::<String>().prop_map(|text| text.replace('\0', "\u{1}"))
}

/// Also those that no event may have.
fn ints() -> impl Strategy<Value = u32> {
    prop_oneof![select(vec![0, 1, INT_MAX]), 0..=INT_MAX]
}

fn longs() -> impl Strategy<Value = i64> {
    let ends = select(vec![i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX]);
    prop_oneof![ends, any::<i64>()]
}

fn epochs() -> impl Strategy<Value = Epoch> {
    longs().prop_map(Epoch::new)
}

/// Mostly of the sale.
fn orders() -> impl Strategy<Value = OrderId> {
    let other = VoucherId::new(VoucherId::MAX.cast_signed()).unwrap();
    let vouchers = prop_oneof![9 => Just(voucher()), 1 => Just(other)];
    (vouchers, any::<u64>(), any::<u64>()).prop_map(|(v, p, c)| OrderId::from_parts(v, p, c))
}

fn sales() -> impl Strategy<Value = EventBody> {
    let numbers = (longs(), ints(), ints());
    (
        texts(),
        0..=i64::MAX,
        numbers,
        moments(),
        moments(),
        any::<bool>(),
    )
        .prop_map(
            |(title, cents, (stock, max_quantity, hold_seconds), opens_at, closes_at, token)| {
                EventBody::SaleScheduled(SaleScheduled {
                    terms: Terms {
                        title: Title::new(title).unwrap(),
                        price: euros(cents),
                        stock,
                        max_quantity,
                        opens_at,
                        closes_at,
                        hold_seconds,
                        requires_sale_token: token,
                    },
                })
            },
        )
}

fn about_sales() -> impl Strategy<Value = EventBody> {
    let adjusted = (longs(), texts(), prop::option::of(epochs()));
    let adjusted = adjusted.prop_map(|(delta, reason, epoch)| {
        EventBody::StockAdjusted(StockAdjusted {
            delta,
            reason: Reason::new(reason).unwrap(),
            epoch,
        })
    });
    let reloaded = (epochs(), epochs(), any::<u128>(), any::<Option<bool>>());
    let reloaded = reloaded.prop_map(|(previous, epoch, nonce, first)| {
        EventBody::SaleReloaded(SaleReloaded {
            previous,
            epoch,
            nonce: Uuid::from_u128(nonce),
            first,
        })
    });
    prop_oneof![sales(), adjusted, reloaded, Just(EventBody::SaleClosed)]
}

fn about_orders() -> impl Strategy<Value = EventBody> {
    let users = || (1..=i64::MAX).prop_map(|number| UserId::new(number).unwrap());
    let granted = (orders(), users(), ints(), moments(), epochs());
    let granted = granted.prop_map(|(order_id, user_id, quantity, pay_by, epoch)| {
        EventBody::SeckillReserved(SeckillReserved {
            order_id,
            user_id,
            quantity,
            pay_by,
            epoch,
            ..reserved(None)
        })
    });
    let paid = (orders(), "[!-~]{1,64}", 0..=i64::MAX, moments());
    let paid = paid.prop_map(|(order_id, payment_id, cents, paid_at)| {
        EventBody::OrderPaid(OrderPaid {
            order_id,
            payment_id: PaymentId::new(payment_id).unwrap(),
            amount: euros(cents),
            paid_at,
        })
    });
    let cancelled = (orders(), users()).prop_map(|(order_id, user_id)| {
        EventBody::OrderCancelled(OrderCancelled { order_id, user_id })
    });
    let expired = (orders(), moments())
        .prop_map(|(order_id, pay_by)| EventBody::OrderExpired(OrderExpired { order_id, pay_by }));
    prop_oneof![granted, paid, cancelled, expired]
}

fn events() -> impl Strategy<Value = Event> {
    let body = prop_oneof![about_sales(), about_orders()];
    (body, moments()).prop_map(|(body, occurred_at)| Event {
        occurred_at,
        ..event(body)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_decoder_takes_exactly_what_an_event_may_say(event in events()) {
        let decoded = decode_event(&encode_event(&event));
        match event.check() {
            Ok(()) => prop_assert_eq!(decoded, Ok(event)),
            Err(expected) => match decoded {
                Err(DecodeError::Invalid { field, .. }) => prop_assert_eq!(field, expected.field),
                other => prop_assert!(false, "{:?}, and not {}", other, expected),
            },
        }
    }
}

/// Avro's `int` has no room for more, so these cannot even be written.
#[test]
fn a_number_beyond_the_schemas_own_range_makes_no_event() {
    let mut order = reserved(None);
    order.quantity = INT_MAX + 1;
    let refused = event(EventBody::SeckillReserved(order)).check();
    assert_eq!(refused.unwrap_err().field, "quantity");
    for field in ["max_quantity", "hold_seconds"] {
        let mut sale = scheduled();
        let number = match field {
            "max_quantity" => &mut sale.terms.max_quantity,
            _ => &mut sale.terms.hold_seconds,
        };
        *number = INT_MAX + 1;
        let refused = event(EventBody::SaleScheduled(sale)).check();
        assert_eq!(refused.unwrap_err().field, field);
    }
}
