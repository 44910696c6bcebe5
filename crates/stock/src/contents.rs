//! What a field of the holds hash holds, in units, and what it should hold.

use seckill_domain::{Order, UserId};

use crate::{AuditContent, Hold, HoldState};

/// Units in holds and taken shrinks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Units {
    pub(crate) held: i64,
    /// Of holds and of shrinks.
    pub(crate) unsettled: i64,
}

impl Units {
    pub(crate) fn add(&mut self, content: &AuditContent) {
        match content {
            AuditContent::Hold(_, hold) => {
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
            AuditContent::Shrink { units, decided, .. } if !decided => self.unsettled += units,
            AuditContent::Shrink { .. } | AuditContent::Unreadable => {}
        }
    }
}

/// Whether a hold is an order's.
pub(crate) fn is_of(hold: &Hold, order: &Order) -> bool {
    hold.order_id == order.order_id && hold.quantity == order.quantity
}

/// The hold of a live order that the log has.
pub(crate) fn settled(order: &Order) -> AuditContent {
    let hold = Hold {
        order_id: order.order_id,
        quantity: order.quantity,
        state: HoldState::Settled,
        pay_by: order.pay_by,
        reserved_at: order.reserved_at,
        key_hash: order.key_hash,
    };
    AuditContent::Hold(order.user_id, hold)
}

/// What a release leaves behind.
pub(crate) fn released(user: UserId, hold: &Hold) -> AuditContent {
    let state = HoldState::Released;
    AuditContent::Hold(
        user,
        Hold {
            state,
            ..hold.clone()
        },
    )
}

/// The hold of an order that the log may not have yet.
pub(crate) fn held(user: UserId, hold: &Hold) -> AuditContent {
    let state = HoldState::Held;
    AuditContent::Hold(
        user,
        Hold {
            state,
            ..hold.clone()
        },
    )
}
