//! The ends of every range: what an event may say, PostgreSQL can store, whatever came before it.

use crate::harness::expected::{fold, rows};
use crate::harness::{Log, Stand, key, order_id, runner, user, voucher};
use proptest::prelude::*;
use proptest::sample::select;
use seckill_domain::{
    Epoch, Event, EventBody, EventId, Money, Offset, OrderCancelled, OrderExpired, OrderId,
    OrderPaid, PaymentId, Reason, SaleReloaded, SaleScheduled, SeckillReserved, StockAdjusted,
    Terms, Timestamp, Title, VoucherId,
};
use uuid::Uuid;

const INT_MAX: u32 = i32::MAX.cast_unsigned();

fn vouchers() -> impl Strategy<Value = VoucherId> {
    select(vec![voucher(1), voucher(VoucherId::MAX.cast_signed())])
}

fn moments() -> impl Strategy<Value = Timestamp> {
    select(vec![
        Timestamp::MIN,
        Timestamp::from_micros(1),
        Timestamp::from_micros(1_763_000_000_123_457),
        Timestamp::MAX,
    ])
}

fn texts() -> impl Strategy<Value = String> {
    select(vec![
        String::new(),
        "\u{1}\u{1b}[2J\r\n\t\u{7f}\u{9b}\\".to_owned(),
        "\u{10ffff}\u{fffe}\u{202e}".to_owned(),
        "🎫".repeat(10_000),
    ])
}

fn prices() -> impl Strategy<Value = Money> {
    (
        select(vec![0, 1, i64::MAX / 2, i64::MAX]),
        select(vec!["AAA", "EUR", "ZZZ"]),
    )
        .prop_map(|(cents, currency)| Money::new(cents, currency.parse().unwrap()).unwrap())
}

fn units() -> impl Strategy<Value = u32> {
    select(vec![1, 2, INT_MAX])
}

fn epochs() -> impl Strategy<Value = Epoch> {
    select(vec![Epoch::FIRST, Epoch::FIRST.next(), Epoch::MAX])
}

fn payments() -> impl Strategy<Value = PaymentId> {
    select(vec!["p".to_owned(), "~".repeat(64), "!".repeat(64)])
        .prop_map(|text| PaymentId::new(text).unwrap())
}

fn scheduled() -> impl Strategy<Value = EventBody> {
    let stock = select(vec![0, 1, i64::MAX - 2, i64::MAX]);
    (texts(), prices(), stock, units(), units(), any::<bool>()).prop_map(
        |(title, price, stock, max_quantity, hold_seconds, requires_sale_token)| {
            EventBody::SaleScheduled(SaleScheduled {
                terms: Terms {
                    title: Title::new(title).unwrap(),
                    price,
                    stock,
                    max_quantity,
                    opens_at: Timestamp::MIN,
                    closes_at: Timestamp::MAX,
                    hold_seconds,
                    requires_sale_token,
                },
            })
        },
    )
}

fn adjusted() -> impl Strategy<Value = EventBody> {
    let delta = select(vec![i64::MIN, -i64::MAX, -1, 1, 2, i64::MAX]);
    (delta, texts(), prop::option::of(epochs())).prop_map(|(delta, reason, epoch)| {
        EventBody::StockAdjusted(StockAdjusted {
            delta,
            reason: Reason::new(reason).unwrap(),
            epoch,
        })
    })
}

fn reserved(order_id: OrderId) -> impl Strategy<Value = EventBody> {
    let users = select(vec![user(1), user(2), user(i64::MAX)]);
    (users, units(), prices(), moments(), epochs(), any::<bool>()).prop_map(
        move |(user_id, quantity, price, pay_by, epoch, keyed)| {
            EventBody::SeckillReserved(SeckillReserved {
                order_id,
                user_id,
                quantity,
                price,
                pay_by,
                epoch,
                key_hash: keyed.then(|| key(0xff)),
            })
        },
    )
}

fn of_an_order(order_id: OrderId) -> impl Strategy<Value = EventBody> {
    let paid = (payments(), prices(), moments()).prop_map(move |(payment_id, amount, paid_at)| {
        EventBody::OrderPaid(OrderPaid {
            order_id,
            payment_id,
            amount,
            paid_at,
        })
    });
    let users = select(vec![user(1), user(2), user(i64::MAX)]);
    let cancelled = users
        .prop_map(move |user_id| EventBody::OrderCancelled(OrderCancelled { order_id, user_id }));
    let expired = moments()
        .prop_map(move |pay_by| EventBody::OrderExpired(OrderExpired { order_id, pay_by }));
    prop_oneof![4 => reserved(order_id), 3 => paid, 1 => cancelled, 1 => expired]
}

fn reloaded() -> impl Strategy<Value = EventBody> {
    (epochs(), 0..3_u128, prop::option::of(any::<bool>())).prop_map(|(previous, nonce, first)| {
        EventBody::SaleReloaded(SaleReloaded {
            previous,
            epoch: previous.next().min(Epoch::MAX),
            nonce: Uuid::from_u128(u128::MAX - nonce),
            first,
        })
    })
}

fn records() -> impl Strategy<Value = (VoucherId, EventBody)> {
    (vouchers(), select(vec![0, 1, 2, u64::MAX])).prop_flat_map(|(voucher, counter)| {
        let body = prop_oneof![
            2 => scheduled(),
            4 => adjusted(),
            8 => of_an_order(order_id(voucher, counter)),
            1 => reloaded(),
            1 => Just(EventBody::SaleClosed),
        ];
        (Just(voucher), body)
    })
}

fn logs() -> impl Strategy<Value = Log> {
    prop::collection::vec((records(), moments()), 1..40).prop_map(|records| {
        (0..)
            .zip(records)
            .map(|(offset, ((voucher, body), occurred_at))| {
                let id = EventId::from_uuid(Uuid::from_u128(offset));
                let event = Event::new(id, voucher, occurred_at, body).unwrap();
                (Offset::new(i64::try_from(offset).unwrap()), event)
            })
            .collect()
    })
}

#[test]
fn what_an_event_may_say_can_be_stored_whatever_came_before() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(Stand::new());
    runner(150)
        .run(&(logs(), 1..8_usize), |(log, size)| {
            let actual = runtime.block_on(async {
                stand.clear().await;
                for batch in log.chunks(size) {
                    let applied = stand.apply(batch[0].0.get(), batch).await;
                    prop_assert!(applied.is_ok(), "{applied:?}");
                }
                Ok(rows(&stand.sql).await)
            })?;
            prop_assert_eq!(actual, fold(&log).rows());
            Ok(())
        })
        .unwrap();
}
