use std::collections::HashMap;

use seckill_domain::VoucherId;

/// Which sales were read hold by hold when. Not every sale can be read in every look.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    readings: u64,
    /// The number of each sale's last reading.
    last: HashMap<VoucherId, u64>,
}

impl Rotation {
    /// At most so many of `sales`, each with its partition: first those that were never read, then those whose reading
    /// is the longest ago.
    pub(super) fn due(
        &self,
        mut sales: Vec<(VoucherId, i32)>,
        most: usize,
    ) -> Vec<(VoucherId, i32)> {
        sales.sort_unstable_by_key(|(voucher, _)| (self.last.get(voucher), voucher.get()));
        sales.truncate(most);
        sales
    }

    pub(super) fn note(&mut self, voucher: VoucherId) {
        self.readings += 1;
        self.last.insert(voucher, self.readings);
    }

    pub(super) fn retain(&mut self, keep: impl Fn(VoucherId) -> bool) {
        self.last.retain(|voucher, _| keep(*voucher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sales(numbers: std::ops::Range<i64>) -> Vec<(VoucherId, i32)> {
        let sales = numbers.map(|number| (VoucherId::new(number).unwrap(), 0));
        sales.collect()
    }

    fn read(rotation: &mut Rotation, of: std::ops::Range<i64>) -> Vec<i64> {
        let due = rotation.due(sales(of), 2);
        due.iter().for_each(|(voucher, _)| rotation.note(*voucher));
        due.iter().map(|(voucher, _)| voucher.get()).collect()
    }

    #[test]
    fn sales_that_are_not_in_every_look_are_read_as_often_as_they_can_be() {
        let mut rotation = Rotation::default();
        // 1 to 3 are in every look, 4 to 6 in every second.
        let looks = [1..4, 1..7, 1..4, 1..7, 1..4, 1..7];
        let read: Vec<_> = looks.map(|look| read(&mut rotation, look)).to_vec();
        assert_eq!(read, [[1, 2], [3, 4], [1, 2], [5, 6], [3, 1], [4, 2]]);
    }

    #[test]
    fn what_is_due_and_was_not_read_stays_due() {
        let mut rotation = Rotation::default();
        assert_eq!(read(&mut rotation, 1..3), [1, 2]);
        assert_eq!(rotation.due(sales(1..4), 1), rotation.due(sales(3..4), 1));
        assert_eq!(read(&mut rotation, 1..4), [3, 1]);
    }
}
