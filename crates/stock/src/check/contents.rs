//! How many units a field of the holds hash has, and how many it should have.

use seckill_domain::{EventId, Order, OrderId, UserId};

use crate::calls::scan::FieldContent;
use crate::calls::view::{Hold, HoldState};

/// Units in holds and taken shrinks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Units {
    pub(crate) held: i64,
    /// Of holds and of shrinks.
    pub(crate) unsettled: i64,
}

impl Units {
    pub(crate) fn add(&mut self, content: &FieldContent) {
        match content {
            FieldContent::Hold(_, hold) => {
                let units = i64::from(hold.quantity);
                match hold.state {
                    HoldState::Held => {
                        self.held += units;
                        self.unsettled += units;
                    }
                    HoldState::Settled => self.held += units,
                    HoldState::Released => {}
                }
            }
            FieldContent::Shrink { units, decided, .. } if !decided => self.unsettled += units,
            FieldContent::Shrink { .. } | FieldContent::Unreadable => {}
        }
    }
}

/// Whether a hold is an order's.
pub(crate) fn is_of(hold: &Hold, order: &Order) -> bool {
    hold.order_id == order.order_id && hold.quantity == order.quantity
}

/// The hold of a live order that the log has.
pub(crate) fn settled(order: &Order) -> FieldContent {
    let hold = Hold {
        order_id: order.order_id,
        quantity: order.quantity,
        state: HoldState::Settled,
        pay_by: order.pay_by,
        reserved_at: order.reserved_at,
        key_hash: order.key_hash,
    };
    FieldContent::Hold(order.user_id, hold)
}

/// The hold after its release.
pub(crate) fn released(user: UserId, hold: &Hold) -> FieldContent {
    let state = HoldState::Released;
    FieldContent::Hold(
        user,
        Hold {
            state,
            ..hold.clone()
        },
    )
}

/// The hold of an order that the log may not have yet.
pub(crate) fn held(user: UserId, hold: &Hold) -> FieldContent {
    let state = HoldState::Held;
    FieldContent::Hold(
        user,
        Hold {
            state,
            ..hold.clone()
        },
    )
}

/// What a repair takes away although it may have been promised to a buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// An order, or its hold, is removed.
    Order(OrderId),
    /// The units that this shrink took are free again.
    Shrink(EventId),
    /// A field that cannot be read is removed.
    Unreadable,
}

impl Loss {
    /// What is lost when `expected` replaces the actual content.
    pub(crate) fn of(actual: &FieldContent, expected: Option<&FieldContent>) -> Option<Self> {
        match (actual, expected) {
            (FieldContent::Hold(_, hold), expected) if hold.state != HoldState::Released => {
                let order = hold.order_id;
                let stays = |expected: &FieldContent| {
                    matches!(expected, FieldContent::Hold(_, expected)
                        if expected.order_id == order && expected.state != HoldState::Released)
                };
                (!expected.is_some_and(stays)).then_some(Self::Order(order))
            }
            (FieldContent::Shrink { event_id, .. }, None) => Some(Self::Shrink(*event_id)),
            (FieldContent::Unreadable, None) => Some(Self::Unreadable),
            _ => None,
        }
    }
}
