//! Which sales a reader looks at that comes by again and again. What it costs a second has a bound, however many sales
//! there are.

use super::serve::ServedSale;

/// A busy sale is looked at each time, and another one once in so many times, unless there are more of them than one
/// look takes: then each kind is looked at less often.
#[derive(Debug, Clone, Copy)]
pub struct Turns {
    per_look: usize,
    at_rest: u64,
    looks: u64,
}

/// What is due in one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    look: u64,
    busy_every: u64,
    others_every: u64,
}

impl Turns {
    /// About `per_look` busy sales in each look, and others once in `at_rest` looks or less often, as many.
    ///
    /// # Panics
    /// When one of the two is zero.
    #[must_use]
    pub const fn new(per_look: usize, at_rest: u64) -> Self {
        assert!(per_look > 0 && at_rest > 0, "nothing would ever be due");
        Self {
            per_look,
            at_rest,
            looks: 0,
        }
    }

    /// Begins the next look at these sales.
    pub fn next(&mut self, sales: &[ServedSale]) -> Turn {
        self.looks += 1;
        let busy = sales.iter().filter(|sale| sale.busy).count();
        let looks_for = |sales: usize| sales.div_ceil(self.per_look).max(1) as u64;
        Turn {
            look: self.looks,
            busy_every: looks_for(busy),
            others_every: looks_for(sales.len() - busy).max(self.at_rest),
        }
    }
}

impl Turn {
    /// Whether it is this sale's turn, where the sales of a kind are spread over the looks.
    #[must_use]
    pub const fn takes(&self, sale: &ServedSale) -> bool {
        let look = self.look.wrapping_add(sale.voucher_id.get().unsigned_abs());
        look.is_multiple_of(self.every(sale))
    }

    /// The same where all sales of a kind are looked at in the same look.
    #[must_use]
    pub const fn takes_all_like(&self, sale: &ServedSale) -> bool {
        self.look.is_multiple_of(self.every(sale))
    }

    /// In how many looks a busy sale is due once.
    #[must_use]
    pub const fn looks_for_all_busy(&self) -> u64 {
        self.busy_every
    }

    const fn every(&self, sale: &ServedSale) -> u64 {
        if sale.busy {
            self.busy_every
        } else {
            self.others_every
        }
    }
}

#[cfg(test)]
mod tests {
    use seckill_domain::{Epoch, VoucherId};

    use super::*;

    fn sales(busy: i64, others: i64) -> Vec<ServedSale> {
        let sale = |id| ServedSale {
            voucher_id: VoucherId::new(id).unwrap(),
            partition: 0,
            epoch: Epoch::FIRST,
            loaded: true,
            over: id > busy,
            busy: id <= busy,
            unpaid_units: 1,
        };
        (1..=busy + others).map(sale).collect()
    }

    /// How often each sale is due in so many looks, and the most sales that one look takes.
    fn looks(
        sales: &[ServedSale],
        count: usize,
        due: fn(&Turn, &ServedSale) -> bool,
    ) -> (Vec<usize>, usize) {
        let mut turns = Turns::new(10, 8);
        let (mut times, mut most) = (vec![0; sales.len()], 0);
        for _ in 0..count {
            let turn = turns.next(sales);
            let mut taken = 0;
            for (sale, times) in sales.iter().zip(&mut times) {
                if due(&turn, sale) {
                    *times += 1;
                    taken += 1;
                }
            }
            most = most.max(taken);
        }
        (times, most)
    }

    #[test]
    fn a_few_busy_sales_are_looked_at_each_time_and_others_at_rest() {
        for due in [Turn::takes, Turn::takes_all_like] {
            let (times, _) = looks(&sales(10, 3), 16, due);
            assert_eq!(times[..10], [16; 10]);
            assert_eq!(times[10..], [2; 3]);
        }
    }

    #[test]
    fn many_sales_are_looked_at_in_turn_and_none_is_left_out() {
        let (times, most) = looks(&sales(100, 300), 120, Turn::takes);
        assert_eq!(times[..100], [12; 100]);
        assert_eq!(times[100..], [4; 300]);
        assert_eq!(most, 20);
    }

    #[test]
    fn all_of_a_kind_are_looked_at_together_and_less_often_the_more_there_are() {
        let (times, most) = looks(&sales(100, 300), 120, Turn::takes_all_like);
        assert_eq!(times[..100], [12; 100]);
        assert_eq!(times[100..], [4; 300]);
        assert_eq!(most, 400);
    }
}
