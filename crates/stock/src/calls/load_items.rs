//! What a load brings into Redis beside the sale itself.

use seckill_domain::{EventId, KeyHash, Order, OrderId, Timestamp, UserId};

/// What a user's order still means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldPlace {
    /// It is the user's live order, and holds its units.
    Live,
    /// It is the user's last order, and its units are free again. The user may order again; a request with its
    /// idempotency key is answered with this order.
    Released,
    /// The user has a later order. Only the idempotency key of this one is kept, if it has one.
    Earlier,
}

/// A user's order, as a load puts it into Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadHold {
    /// The buyer.
    pub user_id: UserId,
    /// The order.
    pub order_id: OrderId,
    /// Units.
    pub quantity: u32,
    /// What it still means.
    pub place: HoldPlace,
    /// The hash of its idempotency key.
    pub key_hash: Option<KeyHash>,
    /// Until when it may be paid.
    pub pay_by: Timestamp,
    /// When it was granted.
    pub reserved_at: Timestamp,
}

impl LoadHold {
    /// `is_earlier` says whether the user has a later order.
    #[must_use]
    pub fn of(order: &Order, is_earlier: bool) -> Self {
        Self {
            user_id: order.user_id,
            order_id: order.order_id,
            quantity: order.quantity,
            place: match (is_earlier, order.status.is_live()) {
                (true, _) => HoldPlace::Earlier,
                (false, true) => HoldPlace::Live,
                (false, false) => HoldPlace::Released,
            },
            key_hash: order.key_hash,
            pay_by: order.pay_by,
            reserved_at: order.reserved_at,
        }
    }
}

/// A shrink that the log has decided. It is loaded so that a late retry takes no units again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadShrink {
    /// The adjustment.
    pub event_id: EventId,
    /// Units.
    pub units: i64,
}
