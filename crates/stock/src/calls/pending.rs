//! Pending events: what was granted in Redis and may not be in the log yet.

use seckill_domain::{
    Epoch, Event, EventBody, EventId, KeyHash, Money, OrderId, Reason, SeckillReserved,
    StockAdjusted, Timestamp, TraceParent, UserId, VoucherId,
};
use uuid::Uuid;

use crate::redis::error::StockError;
use crate::redis::reply::{parse, parse_optional, timestamp};

/// An event that was granted in Redis and waits for the broker's acknowledgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PendingEvent {
    /// Units for a buyer.
    Reservation(PendingReservation),
    /// Units taken off the sale.
    Shrink(PendingShrink),
}

/// A reservation as Redis granted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingReservation {
    /// The id of its event.
    pub event_id: EventId,
    /// The order.
    pub order_id: OrderId,
    /// The buyer.
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// The price of one unit.
    pub price: Money,
    /// When it was granted, by Redis' clock.
    pub reserved_at: Timestamp,
    /// Until when it may be paid, by Redis' clock.
    pub pay_by: Timestamp,
    /// The epoch it was granted in.
    pub epoch: Epoch,
    /// The hash of the request's idempotency key.
    pub key_hash: Option<KeyHash>,
    /// The trace of the request that asked for it.
    pub traceparent: Option<TraceParent>,
}

/// A shrink whose units Redis has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PendingShrink {
    /// The id of its event, under which the units were taken.
    pub event_id: EventId,
    /// Units, positive.
    pub units: i64,
    /// The epoch they were taken in.
    pub epoch: Epoch,
    /// When, by Redis' clock.
    pub at: Timestamp,
}

/// That the broker has acknowledged a pending event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ack {
    /// The order's id, or the shrink's event id.
    pub id: Uuid,
    /// The epoch that the event was published under: an entry that was granted again since stays.
    pub epoch: Epoch,
}

impl PendingReservation {
    /// The event to publish; the same each time.
    #[must_use]
    pub const fn to_event(&self, voucher: VoucherId) -> Event {
        Event {
            event_id: self.event_id,
            voucher_id: voucher,
            occurred_at: self.reserved_at,
            body: EventBody::SeckillReserved(SeckillReserved {
                order_id: self.order_id,
                user_id: self.user_id,
                quantity: self.quantity,
                price: self.price,
                pay_by: self.pay_by,
                epoch: self.epoch,
                key_hash: self.key_hash,
            }),
        }
    }

    /// What clears it once its event is acknowledged.
    #[must_use]
    pub const fn ack(&self) -> Ack {
        Ack {
            id: self.order_id.as_uuid(),
            epoch: self.epoch,
        }
    }
}

impl PendingShrink {
    /// The event to publish; the same each time. The operator's own reason is not kept in Redis.
    #[must_use]
    pub fn to_event(&self, voucher: VoucherId) -> Event {
        Event {
            event_id: self.event_id,
            voucher_id: voucher,
            occurred_at: self.at,
            body: EventBody::StockAdjusted(StockAdjusted {
                delta: -self.units,
                reason: Reason::of_a_shrink(),
                epoch: Some(self.epoch),
            }),
        }
    }

    /// What clears it once its event is acknowledged.
    #[must_use]
    pub const fn ack(&self) -> Ack {
        Ack {
            id: self.event_id.as_uuid(),
            epoch: self.epoch,
        }
    }
}

impl PendingEvent {
    /// The event to publish; the same each time.
    #[must_use]
    pub fn to_event(&self, voucher: VoucherId) -> Event {
        match self {
            Self::Reservation(reservation) => reservation.to_event(voucher),
            Self::Shrink(shrink) => shrink.to_event(voucher),
        }
    }

    /// What clears it once its event is acknowledged.
    #[must_use]
    pub const fn ack(&self) -> Ack {
        match self {
            Self::Reservation(reservation) => reservation.ack(),
            Self::Shrink(shrink) => shrink.ack(),
        }
    }

    /// The trace that its record continues, if its request brought one.
    #[must_use]
    pub const fn traceparent(&self) -> Option<TraceParent> {
        match self {
            Self::Reservation(reservation) => reservation.traceparent,
            Self::Shrink(_) => None,
        }
    }

    /// Reads an outbox entry, whose format is `prelude.lua`'s. Epoch and price are the sale's.
    pub(crate) fn from_entry(
        id: &str,
        entry: &str,
        epoch: Epoch,
        price: Money,
    ) -> Result<Self, StockError> {
        let fields: Vec<&str> = entry.split('|').collect();
        match fields[..] {
            [
                "r",
                at,
                event_id,
                user_id,
                quantity,
                pay_by,
                key_hash,
                traceparent,
            ] => Ok(Self::Reservation(PendingReservation {
                event_id: parse(event_id)?,
                order_id: parse(id)?,
                user_id: parse(user_id)?,
                quantity: parse(quantity)?,
                price,
                reserved_at: timestamp(at)?,
                pay_by: timestamp(pay_by)?,
                epoch,
                key_hash: parse_optional(key_hash)?,
                traceparent: parse_optional(traceparent)?,
            })),
            ["a", at, units] => Ok(Self::Shrink(PendingShrink {
                event_id: parse(id)?,
                units: parse(units)?,
                epoch,
                at: timestamp(at)?,
            })),
            _ => Err(StockError::Protocol(format!("outbox entry {entry:?}"))),
        }
    }
}
