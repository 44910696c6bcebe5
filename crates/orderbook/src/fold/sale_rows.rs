//! All rows of one sale as values, for comparing two views of the log with each other, or one of them with
//! the log.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Debug, Display, Formatter};

use seckill_domain::{Order, OrderId, Refund, Sale};

use crate::fold::apply::{Adjustment, Reload};

/// One sale's rows in every table of the view. What only Redis' loads write (`loaded`, `retired`) is
/// not here: it does not come from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaleRows {
    /// The row of `vouchers`; none before the sale is scheduled.
    pub sale: Option<Sale>,
    /// Of `orders`, by order id.
    pub orders: Vec<Order>,
    /// Of `refunds`, by offset.
    pub refunds: Vec<Refund>,
    /// Of `stock_adjustments`, by offset.
    pub adjustments: Vec<Adjustment>,
    /// Of `sale_reloads`, by offset.
    pub reloads: Vec<Reload>,
}

/// A row that differs between two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// The table.
    pub table: &'static str,
    /// The row's key, as the tables spell it.
    pub key: String,
    /// How it differs.
    pub kind: RowDifferenceKind,
    /// The columns that differ, as `name: expected, and not actual`; or which of the two has no
    /// such row.
    pub what: String,
}

/// How a row differs between two views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowDifferenceKind {
    /// The row is missing.
    Missing,
    /// The row should not exist.
    Extra,
    /// Columns differ.
    Corrupted,
}

/// What a repair of rows takes away although a buyer may rely on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RowLoss {
    /// An order is removed, or is not live any more.
    Order(OrderId),
    /// A refund is removed; the payment's id.
    Refund(String),
}

impl Display for RowLoss {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(id) => write!(f, "order {id}"),
            Self::Refund(payment) => write!(f, "the refund of payment {payment}"),
        }
    }
}

impl SaleRows {
    /// Whether no table has anything of the sale.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        let rest = self.refunds.len() + self.adjustments.len() + self.reloads.len();
        usize::from(self.sale.is_some()) + self.orders.len() + rest
    }

    /// What is lost when these rows replace `actual`.
    #[must_use]
    pub fn losses(&self, actual: &Self) -> Vec<RowLoss> {
        let order = |order: &Order| RowLoss::Order(order.order_id);
        let live = |rows: &Self| -> Vec<RowLoss> {
            let live = rows.orders.iter().filter(|o| o.status.is_live());
            live.map(order).collect()
        };
        let stay_live: HashSet<_> = live(self).into_iter().collect();
        let end = live(actual);
        let end = end.into_iter().filter(|loss| !stay_live.contains(loss));
        let mut lost: HashSet<_> = end.collect();
        let refund = |refund: &Refund| RowLoss::Refund(refund.payment_id.to_string());
        let orders = actual.orders.iter().map(order);
        let refunds = actual.refunds.iter().map(refund);
        lost.extend(self.lacks(orders.chain(refunds).collect()));
        lost.into_iter().collect()
    }

    /// Those that `self` has no row of.
    #[must_use]
    pub fn lacks(&self, mut rows: Vec<RowLoss>) -> Vec<RowLoss> {
        let orders: HashSet<_> = self.orders.iter().map(|order| order.order_id).collect();
        let refunds: HashSet<_> = self.refunds.iter().map(|r| r.payment_id.as_str()).collect();
        rows.retain(|row| match row {
            RowLoss::Order(id) => !orders.contains(id),
            RowLoss::Refund(payment) => !refunds.contains(payment.as_str()),
        });
        rows
    }

    /// Each row of `self`, which is how it should be, that `actual` has otherwise or not at all, and
    /// each that only `actual` has.
    #[must_use]
    pub fn differences(&self, actual: &Self) -> Vec<RowDifference> {
        let mut found = Vec::new();
        let sales = |rows: &Self| rows.sale.clone().into_iter().collect::<Vec<_>>();
        let (expected_sale, actual_sale) = (sales(self), sales(actual));
        let key = |sale: &Sale| sale.voucher_id.to_string();
        compare("vouchers", &expected_sale, &actual_sale, key, &mut found);
        let key = |order: &Order| order.order_id.to_string();
        compare("orders", &self.orders, &actual.orders, key, &mut found);
        let key = |refund: &Refund| refund.payment_id.to_string();
        compare("refunds", &self.refunds, &actual.refunds, key, &mut found);
        let key = |row: &Adjustment| row.event_id.to_string();
        let (expected, other) = (&self.adjustments, &actual.adjustments);
        compare("stock_adjustments", expected, other, key, &mut found);
        let key = |row: &Reload| row.nonce.to_string();
        let (expected, other) = (&self.reloads, &actual.reloads);
        compare("sale_reloads", expected, other, key, &mut found);
        found
    }
}

fn compare<R: PartialEq + Debug>(
    table: &'static str,
    expected: &[R],
    actual: &[R],
    key: impl Fn(&R) -> String,
    found: &mut Vec<RowDifference>,
) {
    let mut others: BTreeMap<String, &R> = actual.iter().map(|row| (key(row), row)).collect();
    for row in expected {
        let key = key(row);
        let (kind, what) = match others.remove(&key) {
            Some(other) if other == row => continue,
            Some(other) => (RowDifferenceKind::Corrupted, fields_that_differ(row, other)),
            None => (RowDifferenceKind::Missing, "the row is missing".to_owned()),
        };
        found.push(RowDifference {
            table,
            key,
            kind,
            what,
        });
    }
    for (key, _) in others {
        found.push(RowDifference {
            table,
            key,
            kind: RowDifferenceKind::Extra,
            what: "the row should not be there".to_owned(),
        });
    }
}

/// The lines of the two values' debug forms that differ: a field each.
fn fields_that_differ<R: Debug>(expected: &R, actual: &R) -> String {
    let (expected, actual) = (format!("{expected:#?}"), format!("{actual:#?}"));
    let (expected, actual) = (flattened(&expected), flattened(&actual));
    let differing = expected.iter().filter_map(|(name, value)| {
        let other = actual.get(name).map_or("none", String::as_str);
        (other != value).then(|| format!("{name}: {value}, and not {other}"))
    });
    let only_actual = actual
        .iter()
        .filter(|(name, _)| !expected.contains_key(*name))
        .map(|(name, value)| format!("{name}: none, and not {value}"));
    differing.chain(only_actual).collect::<Vec<_>>().join("; ")
}

/// The fields of the outermost struct, each with its value on one line.
fn flattened(debug: &str) -> BTreeMap<String, String> {
    const INDENT: &str = "    ";
    let mut fields: BTreeMap<String, String> = BTreeMap::new();
    let mut last: Option<String> = None;
    for line in debug.lines() {
        let Some(text) = line.strip_prefix(INDENT) else {
            continue;
        };
        match (text.starts_with([' ', ')', '}', ']']), &last) {
            (true, Some(name)) => {
                let value = fields.entry(name.clone()).or_default();
                value.push_str(text.trim().trim_end_matches(','));
            }
            _ => {
                let (name, value) = text.split_once(": ").unwrap_or((text, ""));
                fields.insert(name.to_owned(), value.trim_end_matches(',').to_owned());
                last = Some(name.to_owned());
            }
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use seckill_domain::{Epoch, Offset, VoucherId};
    use uuid::Uuid;

    use super::*;

    fn reload(nonce: u128, accepted: bool) -> Reload {
        Reload {
            voucher_id: VoucherId::new(1).unwrap(),
            nonce: Uuid::from_u128(nonce),
            epoch: Epoch::new(2),
            accepted,
            offset: Offset::new(9),
        }
    }

    #[test]
    fn a_difference_names_the_row_and_the_column() {
        let rows = |reloads| SaleRows {
            reloads,
            ..SaleRows::default()
        };
        let expected = rows(vec![reload(1, true), reload(2, true), reload(3, true)]);
        let actual = rows(vec![reload(1, true), reload(2, false), reload(4, true)]);
        let found = expected.differences(&actual);
        let whats: Vec<_> = found.iter().map(|d| d.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "accepted: true, and not false",
                "the row is missing",
                "the row should not be there"
            ]
        );
        assert!(found.iter().all(|d| d.table == "sale_reloads"));
        assert_eq!(found[1].key, Uuid::from_u128(3).to_string());
        assert!(expected.differences(&expected).is_empty());
    }
}
