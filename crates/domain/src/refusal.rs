//! Why a sale does not grant an order. `reserve.lua` decides it before anything is in the log.

use crate::{OrderId, Timestamp, VoucherId};

/// Why a sale does not grant an order. Nothing was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fewer units are free.
    #[error("sold out")]
    SoldOut,
    /// The user has a live order.
    #[error("the buyer has the live order {order_id}")]
    AlreadyOrdered {
        /// That order.
        order_id: OrderId,
    },
    /// The sale has not begun.
    #[error("the sale has not begun")]
    NotStarted {
        /// When it begins.
        opens_at: Timestamp,
    },
    /// The sale's window is over, or an operator closed the sale.
    #[error("the sale has ended")]
    Ended,
    /// Less than one unit or more than the sale allows.
    #[error("an order has 1 to {max_quantity} units")]
    QuantityLimit {
        /// The most units.
        max_quantity: u32,
    },
    /// The idempotency key was used with another quantity.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The sale requires a sale token, and the order has no valid one.
    #[error("the sale requires a sale token")]
    TokenRequired,
    /// The sale token was used for another order.
    #[error("the sale token was used for another order")]
    TokenUsed,
}

impl Refusal {
    /// The refusals that have no members.
    const PLAIN: [Self; 5] = [
        Self::SoldOut,
        Self::Ended,
        Self::KeyReused,
        Self::TokenRequired,
        Self::TokenUsed,
    ];

    /// The name of the problem in an answer: the last part of its `type`. `reserve.lua` replies with it too.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoldOut => "sold-out",
            Self::AlreadyOrdered { .. } => "already-ordered",
            Self::NotStarted { .. } => "not-started",
            Self::Ended => "ended",
            Self::QuantityLimit { .. } => "quantity-limit",
            Self::KeyReused => "idempotency-key-reused",
            Self::TokenRequired => "sale-token-required",
            Self::TokenUsed => "sale-token-used",
        }
    }

    /// The refusal of this name. None for an unknown name, and for a refusal that has members.
    #[must_use]
    pub fn plain(name: &str) -> Option<Self> {
        Self::PLAIN
            .into_iter()
            .find(|refusal| refusal.name() == name)
    }

    /// One of each kind. Documents are made of them, and tests check that pages and tables know all.
    #[must_use]
    pub fn examples() -> [Self; 8] {
        let voucher = VoucherId::new(7).expect("7 is a voucher id");
        let [sold_out, ended, key_reused, token_required, token_used] = Self::PLAIN;
        [
            sold_out,
            Self::AlreadyOrdered {
                order_id: OrderId::from_parts(voucher, 1, 1),
            },
            Self::NotStarted {
                opens_at: Timestamp::from_micros(1_777_629_600_000_000),
            },
            ended,
            Self::QuantityLimit { max_quantity: 2 },
            key_reused,
            token_required,
            token_used,
        ]
    }
}
