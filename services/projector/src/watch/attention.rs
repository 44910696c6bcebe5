//! Which sales are looked at in Redis this time.

use std::collections::HashSet;

use seckill_domain::VoucherId;
use seckill_orderbook::{ServedSale, Turns};

/// Sales of a kind in one look. A look at a sale costs Redis some 20 µs of its one thread.
const SALES_PER_LOOK: usize = 256;
/// A sale that nobody can order from is looked at once in so many looks.
const AT_REST: u64 = 8;

/// What the looks before this one have found.
#[derive(Debug)]
pub(super) struct Attention {
    turns: Turns,
    /// Sales that Redis did not serve when they were last looked at.
    not_served: HashSet<VoucherId>,
    /// Whether the last look found a sale that Redis does not serve any more: others may be lost with it.
    in_doubt: bool,
}

impl Attention {
    pub(super) fn new() -> Self {
        Self {
            turns: Turns::new(SALES_PER_LOOK, AT_REST),
            not_served: HashSet::new(),
            in_doubt: false,
        }
    }

    /// Begins a look: leaves those of all `sales` that are due. What Redis does not serve always is. `known` are the
    /// ids of all.
    pub(super) fn next(&mut self, sales: &mut Vec<ServedSale>, known: &HashSet<VoucherId>) {
        self.not_served.retain(|voucher| known.contains(voucher));
        let turn = self.turns.next(sales);
        let all = std::mem::take(&mut self.in_doubt);
        sales.retain(|sale| {
            all || !sale.loaded || self.not_served.contains(&sale.voucher_id) || turn.takes(sale)
        });
    }

    /// A master that does not answer serves none of its sales.
    pub(super) fn saw(&mut self, sale: &ServedSale, served: bool) {
        if served {
            self.not_served.remove(&sale.voucher_id);
        } else if self.not_served.insert(sale.voucher_id) && sale.loaded {
            self.in_doubt = true;
        }
    }

    pub(super) fn not_served(&self) -> usize {
        self.not_served.len()
    }
}

#[cfg(test)]
mod tests {
    use seckill_domain::Epoch;

    use super::*;

    const SALES: usize = 4 * SALES_PER_LOOK;

    fn sales() -> Vec<ServedSale> {
        let sale = |id| ServedSale {
            voucher_id: VoucherId::new(id).unwrap(),
            partition: 0,
            epoch: Epoch::FIRST,
            loaded: true,
            over: false,
            busy: true,
            unpaid_units: 0,
        };
        (1..).take(SALES).map(sale).collect()
    }

    /// One look, at a Redis that serves what `serves` says.
    fn look(attention: &mut Attention, serves: impl Fn(VoucherId) -> bool) -> Vec<VoucherId> {
        let mut due = sales();
        let known = due.iter().map(|sale| sale.voucher_id).collect();
        attention.next(&mut due, &known);
        for sale in &due {
            attention.saw(sale, serves(sale.voucher_id));
        }
        due.iter().map(|sale| sale.voucher_id).collect()
    }

    #[test]
    fn many_sales_that_are_served_are_looked_at_by_turns() {
        let mut attention = Attention::new();
        let mut seen = HashSet::new();
        for _ in 0..4 {
            let due = look(&mut attention, |_| true);
            assert_eq!(due.len(), SALES_PER_LOOK);
            seen.extend(due);
        }
        assert_eq!(seen.len(), SALES);
    }

    #[test]
    fn all_are_looked_at_after_redis_has_lost_one() {
        let mut attention = Attention::new();
        look(&mut attention, |_| true);
        let lost = look(&mut attention, |_| false);
        assert_eq!(lost.len(), SALES_PER_LOOK);
        assert_eq!(look(&mut attention, |_| false).len(), SALES);
        assert_eq!(attention.not_served(), SALES);
        assert_eq!(look(&mut attention, |_| true).len(), SALES);
        assert_eq!(look(&mut attention, |_| true).len(), SALES_PER_LOOK);
    }

    #[test]
    fn sales_of_a_master_that_stays_away_do_not_bring_those_of_the_others_each_time() {
        let mut attention = Attention::new();
        let away = SALES / 2;
        let lost: HashSet<_> = sales().iter().take(away).map(|s| s.voucher_id).collect();
        let is_there = |voucher: VoucherId| !lost.contains(&voucher);
        look(&mut attention, is_there);
        for _ in 0..2 {
            assert_eq!(look(&mut attention, is_there).len(), SALES);
        }
        let due = look(&mut attention, is_there);
        assert_eq!(due.len(), away + SALES_PER_LOOK / 2);
        assert_eq!(attention.not_served(), away);
    }

    #[test]
    fn a_sale_that_stays_unserved_is_looked_at_each_time_and_does_not_bring_all() {
        let mut attention = Attention::new();
        let lost = VoucherId::new(7).unwrap();
        while attention.not_served() == 0 {
            look(&mut attention, |voucher| voucher != lost);
        }
        look(&mut attention, |voucher| voucher != lost);
        for _ in 0..8 {
            let due = look(&mut attention, |voucher| voucher != lost);
            assert!(due.contains(&lost) && due.len() <= SALES_PER_LOOK + 1);
        }
    }
}
