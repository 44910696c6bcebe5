//! Every sale's units in Redis against PostgreSQL, at the position that Redis has reached. Cheap: what has
//! moved between the two positions is read over an index, once.

use std::collections::HashMap;

use seckill_domain::{Epoch, Offset, VoucherId};
use seckill_orderbook::SaleUnits;
use seckill_stock::SaleView;

use super::observations::{Observation, REDIS_HELD, REDIS_STOCK};

/// What has moved in a sale from the position that Redis stood at up to the one PostgreSQL was read at.
/// What is in the log does not change: while Redis stands still, only what came since has to be read.
#[derive(Debug, Clone, Copy)]
struct Memo {
    epoch: Epoch,
    since: Offset,
    read_to: Offset,
    taken: i64,
    added: i64,
}

#[derive(Debug, Default)]
pub(super) struct Units {
    memos: HashMap<VoucherId, Memo>,
}

/// A sale whose two sides can be compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    /// Units that Redis has free or in flight beyond those that PostgreSQL has free.
    pub(super) stock: i64,
    /// Settled units that Redis holds, beyond those of live orders.
    pub(super) held: i64,
    /// Units in live orders.
    pub(super) live: i64,
}

impl Units {
    /// From where on a sale's rows have to be read.
    pub(super) fn since(&self, voucher: VoucherId, view: &SaleView) -> Offset {
        let memo = self.memos.get(&voucher);
        let memo = memo.filter(|m| m.since == view.position && m.epoch == view.epoch);
        memo.map_or(view.position, |memo| memo.read_to)
    }

    /// Reads the sale from Redis' position on next time: what was remembered may have been repaired
    /// in the tables.
    pub(super) fn forget(&mut self, voucher: VoucherId) {
        self.memos.remove(&voucher);
    }

    pub(super) fn retain(&mut self, checked: impl Fn(VoucherId) -> bool) {
        self.memos.retain(|voucher, _| checked(*voucher));
    }

    /// None where the sale is about to be loaded anew, or PostgreSQL has lost what Redis knows.
    pub(super) fn compare(
        &mut self,
        view: &SaleView,
        since: Offset,
        units: &SaleUnits,
    ) -> Option<Compared> {
        if units.epoch != view.epoch || units.position < view.position {
            self.memos.remove(&units.voucher_id);
            return None;
        }
        let before = self.memos.get(&units.voucher_id);
        let before = before.filter(|memo| memo.since == view.position && memo.read_to == since);
        let (taken, added) = before.map_or((0, 0), |memo| (memo.taken, memo.added));
        let memo = Memo {
            epoch: units.epoch,
            since: view.position,
            read_to: units.position,
            taken: taken + units.taken_since,
            added: added + units.added_since,
        };
        self.memos.insert(units.voucher_id, memo);
        let available = units.available + memo.taken - memo.added;
        let live = units.live - memo.taken;
        Some(Compared {
            stock: view.stock + view.unsettled - available,
            held: view.held - view.unsettled - live,
            live: units.live,
        })
    }
}

impl Compared {
    pub(super) fn observations(&self, view: &SaleView) -> Vec<Observation> {
        let mut seen = Vec::new();
        let mut add = |invariant, units: i64, what: &str| {
            seen.push(Observation {
                invariant,
                of: units.to_string(),
                detail: format!("{units:+} units {what} at position {}", view.position.get()),
            });
        };
        if self.stock != 0 {
            add(REDIS_STOCK, self.stock, "free or in flight in Redis");
        }
        if view.stock < 0 {
            add(REDIS_STOCK, view.stock, "free in Redis");
        }
        // Fewer may be a shrink that is under way; whether it is, the holds say.
        if self.held > 0 {
            add(REDIS_HELD, self.held, "held in Redis");
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use seckill_domain::Timestamp;

    use super::*;

    fn view(stock: i64, held: i64, unsettled: i64, position: i64) -> SaleView {
        SaleView {
            stock,
            held,
            unsettled,
            epoch: Epoch::FIRST,
            position: Offset::new(position),
            sale_closed: false,
            opens_at: Timestamp::from_micros(0),
            closes_at: Timestamp::from_micros(1),
            max_quantity: 1,
        }
    }

    fn rows(available: i64, live: i64, taken_since: i64, position: i64) -> SaleUnits {
        SaleUnits {
            voucher_id: VoucherId::new(7).unwrap(),
            epoch: Epoch::FIRST,
            position: Offset::new(position),
            available,
            live,
            taken_since,
            added_since: 0,
        }
    }

    #[test]
    fn a_store_that_is_behind_is_no_drift_and_a_lost_unit_is() {
        let mut units = Units::default();
        let voucher = VoucherId::new(7).unwrap();
        // Ten units. Redis has settled two orders, and granted three more; the fold has two of those.
        let seen = view(5, 5, 3, 20);
        let since = units.since(voucher, &seen);
        assert_eq!(since, Offset::new(20));
        let compared = units.compare(&seen, since, &rows(6, 4, 2, 22)).unwrap();
        assert_eq!((compared.stock, compared.held), (0, 0));
        // Redis stands still; the fold takes the third. What was read before is not read again.
        let since = units.since(voucher, &seen);
        assert_eq!(since, Offset::new(22));
        let compared = units.compare(&seen, since, &rows(5, 5, 1, 23)).unwrap();
        assert_eq!((compared.stock, compared.held), (0, 0));
        let leaked = view(4, 5, 3, 20);
        let since = units.since(voucher, &leaked);
        let compared = units.compare(&leaked, since, &rows(5, 5, 0, 23)).unwrap();
        assert_eq!((compared.stock, compared.held), (-1, 0));
        assert!(
            units
                .compare(&view(5, 5, 3, 30), since, &rows(5, 5, 0, 23))
                .is_none()
        );
    }
}
