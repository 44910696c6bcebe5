//! One sale in the log, for the tests of what is compared with it.

use seckill_domain::{
    Epoch, Money, Offset, Order, OrderId, OrderStatus, Sale, Terms, Timestamp, Title, UserId,
    VoucherId,
};

/// Units at the start.
pub(crate) const STOCK: i64 = 10;

pub(crate) fn voucher() -> VoucherId {
    VoucherId::new(7).unwrap()
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

pub(crate) fn order_id(number: u64) -> OrderId {
    OrderId::from_parts(voucher(), 1, number)
}

pub(crate) fn euros(cents: i64) -> Money {
    Money::new(cents, "EUR".parse().unwrap()).unwrap()
}

pub(crate) fn terms() -> Terms {
    Terms {
        title: Title::new("A chair").unwrap(),
        price: euros(500),
        stock: STOCK,
        max_quantity: 5,
        opens_at: Timestamp::from_micros(0),
        closes_at: Timestamp::from_micros(1_000_000),
        hold_seconds: 60,
        requires_sale_token: false,
    }
}

/// With `available` units free; who asks only for that need not keep the other numbers.
pub(crate) fn sale(available: i64) -> Sale {
    Sale {
        voucher_id: voucher(),
        terms: terms(),
        adjusted: 0,
        available,
        unpaid: STOCK - available,
        paid: 0,
        epoch: Epoch::FIRST,
        scheduled_offset: Offset::new(0),
        closed: None,
    }
}

/// The user's order of `quantity` units, with the user's number, reserved at `offset`.
pub(crate) fn order(of: i64, quantity: u32, offset: i64) -> Order {
    Order {
        order_id: order_id(of.unsigned_abs()),
        user_id: user(of),
        quantity,
        amount: euros(500 * i64::from(quantity)),
        status: OrderStatus::Unpaid,
        rejected: None,
        reserved_at: Timestamp::from_micros(offset),
        pay_by: Timestamp::from_micros(offset + 60_000_000),
        key_hash: None,
        reserved_offset: Offset::new(offset),
        closed: None,
        payment_id: None,
    }
}

/// The same, which ended so at `offset`.
pub(crate) fn ended(mut order: Order, status: OrderStatus, offset: i64) -> Order {
    order.status = status;
    order.closed = Some((Timestamp::from_micros(offset), Offset::new(offset)));
    order
}
