//! The one sale that is simulated.

use seckill_domain::{
    Currency, Event, EventBody, EventId, KeyHash, Money, SaleScheduled, Terms, Timestamp, Title,
    UserId, VoucherId,
};

/// The number of buyers.
pub(crate) const USERS: i64 = 5;

/// The longest lease on sold-out. It is shorter than what a load waits after its claim.
pub(crate) const LEASE_TICKS: u64 = 200;

/// # Panics
/// Never.
pub(crate) fn voucher() -> VoucherId {
    VoucherId::new(7).expect("in range")
}

pub(crate) fn user(number: i64) -> UserId {
    UserId::new(number).expect("in range")
}

pub(crate) fn key(number: u64) -> KeyHash {
    KeyHash::from_bytes(u128::from(number).to_be_bytes())
}

pub(crate) fn price() -> Money {
    let currency: Currency = "EUR".parse().expect("a currency");
    Money::new(100, currency).expect("not negative")
}

pub(crate) fn scheduled(stock: i64) -> EventBody {
    EventBody::SaleScheduled(SaleScheduled {
        terms: Terms {
            title: Title::default(),
            price: price(),
            stock,
            max_quantity: 3,
            opens_at: Timestamp::from_micros(0),
            // The sale ends only when it is closed.
            closes_at: Timestamp::from_micros(i64::MAX),
            hold_seconds: 1,
            requires_sale_token: false,
        },
    })
}

/// A tick is a microsecond.
pub(crate) fn moment(tick: u64) -> Timestamp {
    Timestamp::from_micros(i64::try_from(tick).unwrap_or(i64::MAX))
}

pub(crate) fn event(event_id: EventId, body: EventBody) -> Event {
    Event {
        event_id,
        voucher_id: voucher(),
        occurred_at: Timestamp::from_micros(0),
        body,
    }
}
