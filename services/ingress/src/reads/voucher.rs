//! A sale with its stock and its status.

use std::sync::Arc;

use seckill_domain::Timestamp;
use seckill_stock::SaleView;

use super::card::Card;

/// A sale with its stock.
#[derive(Debug, Clone)]
pub struct VoucherView {
    /// The sale without its stock.
    pub card: Arc<Card>,
    /// Its numbers in Redis; none while Redis does not serve it.
    pub served: Option<SaleView>,
    /// Units free by PostgreSQL, where Redis does not serve it.
    pub(super) available: i64,
}

/// Whether an order has a chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoucherStatus {
    /// Before its window.
    Scheduled,
    /// In its window, with units, and served.
    Open,
    /// In its window and served, with no units left for now.
    SoldOut,
    /// Over, off the shelf, or not served for now.
    Closed,
}

impl VoucherStatus {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Scheduled, Self::Open, Self::SoldOut, Self::Closed];

    /// As answers spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Open => "open",
            Self::SoldOut => "sold_out",
            Self::Closed => "closed",
        }
    }
}

impl VoucherView {
    /// Whether it takes no orders any more: its window is over, or an operator closed it.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        let closed_in_redis = self.served.as_ref().is_some_and(|view| view.sale_closed);
        self.card.closed || closed_in_redis || now >= self.card.closes_at
    }

    /// At this moment: a view that is a second old must not open late.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> VoucherStatus {
        if self.has_ended(now) {
            return VoucherStatus::Closed;
        }
        if now < self.card.opens_at {
            return VoucherStatus::Scheduled;
        }
        match &self.served {
            Some(view) if view.stock > 0 => VoucherStatus::Open,
            Some(_) => VoucherStatus::SoldOut,
            None => VoucherStatus::Closed,
        }
    }

    /// Units free, by Redis where it serves the sale.
    #[must_use]
    pub fn stock_left(&self) -> i64 {
        let by_redis = self.served.as_ref().map(|view| view.stock);
        by_redis.unwrap_or(self.available)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::{Epoch, Money, Offset, VoucherId};

    const OPENS: Timestamp = Timestamp::from_micros(100);
    const CLOSES: Timestamp = Timestamp::from_micros(200);

    fn view(stock: Option<i64>, closed: bool) -> VoucherView {
        let card = Card {
            voucher_id: VoucherId::new(7).unwrap(),
            title: "Lamp".to_owned(),
            price: Money::new(500, "EUR".parse().unwrap()).unwrap(),
            max_quantity: 1,
            requires_sale_token: false,
            opens_at: OPENS,
            closes_at: CLOSES,
            closed,
            available_then: 9,
        };
        let served = stock.map(|stock| SaleView {
            stock,
            held: 0,
            unsettled: 0,
            epoch: Epoch::FIRST,
            position: Offset::new(1),
            sale_closed: closed,
            opens_at: OPENS,
            closes_at: CLOSES,
            max_quantity: 1,
        });
        VoucherView {
            card: Arc::new(card),
            served,
            available: 9,
        }
    }

    fn status(at: i64, stock: Option<i64>, closed: bool) -> VoucherStatus {
        view(stock, closed).status(Timestamp::from_micros(at))
    }

    #[test]
    fn the_window_is_half_open_and_a_close_ends_it() {
        assert_eq!(status(99, Some(9), false), VoucherStatus::Scheduled);
        assert_eq!(status(100, Some(9), false), VoucherStatus::Open);
        assert_eq!(status(199, Some(9), false), VoucherStatus::Open);
        assert_eq!(status(200, Some(9), false), VoucherStatus::Closed);
        assert_eq!(status(99, Some(9), true), VoucherStatus::Closed);
        assert_eq!(status(150, Some(9), true), VoucherStatus::Closed);
    }

    #[test]
    fn open_only_when_redis_serves_it_with_units() {
        assert_eq!(status(150, Some(1), false), VoucherStatus::Open);
        assert_eq!(status(150, Some(0), false), VoucherStatus::SoldOut);
        assert_eq!(status(150, None, false), VoucherStatus::Closed);
        assert_eq!(status(50, None, false), VoucherStatus::Scheduled);
        let at = Timestamp::from_micros(150);
        assert!(!view(None, false).has_ended(at), "it is being loaded");
        assert!(view(None, true).has_ended(at) && view(Some(3), true).has_ended(at));
        assert_eq!(view(Some(3), false).stock_left(), 3);
        assert_eq!(view(None, false).stock_left(), 9);
    }
}
