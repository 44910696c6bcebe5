//! Compares a sale in Redis with the log: what differs at the position that Redis has reached, and what
//! repairs it. Units in flight are no difference.

use std::collections::{HashMap, HashSet};

use seckill_domain::{Offset, Order, OrderId, UserId};

use crate::calls::correct::{Correction, HoldCorrection};
use crate::calls::scan::{FieldContent, HoldsField, SaleNumbers, ScanPage};
use crate::calls::view::{Hold, HoldState};
use crate::check::contents::{Loss, Units, held, is_of, released, settled};
use crate::check::expected::ExpectedSale;
use crate::redis::script::MAX_ITEMS;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DriftKind {
    /// The free units are not those of the log, less what is in flight.
    Stock,
    /// The count of held units is not that of the holds.
    Held,
    /// The count of unsettled units is not that of the holds.
    Unsettled,
    /// A live order has no hold.
    MissingHold,
    /// A hold exists, and differs from what the log says.
    WrongHold,
    /// A hold whose order is not in the log, and can no longer get there.
    OrphanHold,
    /// Terms, or whether the sale is closed, are not those of the log.
    Terms,
}

impl DriftKind {
    /// As reports and metrics spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stock => "redis-stock",
            Self::Held => "redis-held",
            Self::Unsettled => "redis-unsettled",
            Self::MissingHold => "missing-hold",
            Self::WrongHold => "wrong-hold",
            Self::OrphanHold => "orphan-hold",
            Self::Terms => "redis-terms",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// What is wrong.
    pub kind: DriftKind,
    /// The buyer, where it is about one.
    pub user: Option<UserId>,
    /// The order, where it is about one.
    pub order: Option<OrderId>,
    /// What its repair takes away.
    pub loses: Option<Loss>,
    /// The field of the holds hash, where it is about one that is there.
    pub field: Option<String>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub actual: String,
}

/// What repairs a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// There is nothing to do.
    None,
    /// The log has newer records that concern a correction: scan again.
    Again,
    /// A guarded correction. The sale stays open.
    Correct(Correction),
    /// A load. The sale is not served for about the promise deadline.
    Reload,
}

/// The result of comparing one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftReport {
    /// The differences.
    pub drifts: Vec<Drift>,
    /// What repairs them.
    pub repair: Repair,
}

/// Compares the pages of one scan with `expected`, which was read after the scan. `is_orphan` is asked about a
/// hold or a shrink that is not in the log: true means that it can no longer get there, false that it is in
/// flight. None: the two cannot be compared, because Redis has settled a record that `expected` does not have,
/// or because the epochs differ, or because the sale was loaded during the scan.
#[must_use]
pub fn compare(
    pages: &[ScanPage],
    expected: &ExpectedSale,
    is_orphan: &dyn Fn(&HoldsField) -> bool,
) -> Option<DriftReport> {
    let (first, last) = (pages.first()?, pages.last()?);
    let epoch = expected.sale().epoch;
    let comparable = |page: &ScanPage| {
        page.numbers.epoch == epoch && page.numbers.position <= expected.position()
    };
    if !pages.iter().all(comparable) {
        return None;
    }
    let mut comparison = Comparison {
        expected,
        is_orphan,
        drifts: Vec::new(),
        fixes: Vec::new(),
        again: false,
        seen: HashSet::new(),
        actual: Units::default(),
        repaired: Units::default(),
    };
    for page in pages {
        for field in &page.fields {
            comparison.field(field, page.numbers.position);
        }
    }
    comparison.missing(first.numbers.position, last.numbers.position);
    comparison.terms(&last.numbers);
    Some(comparison.finish(last, at_one_moment(pages)))
}

/// Whether nothing changed during the scan, so that all pages are of one moment. If not, only sums can be
/// compared, and a scan at a quieter time finds more.
#[must_use]
pub fn at_one_moment(pages: &[ScanPage]) -> bool {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else {
        return false;
    };
    // Between two loads only a settle reverses a grant, and a settle changes the position.
    let as_of_last = SaleNumbers {
        now: last.numbers.now,
        ..first.numbers.clone()
    };
    as_of_last == last.numbers
}

struct Comparison<'a> {
    expected: &'a ExpectedSale,
    is_orphan: &'a dyn Fn(&HoldsField) -> bool,
    drifts: Vec<Drift>,
    fixes: Vec<HoldCorrection>,
    /// A fix concerns an order that the log has decided on since.
    again: bool,
    /// A field may be in two pages.
    seen: HashSet<String>,
    /// The units in the holds as they are, and after the repair.
    actual: Units,
    repaired: Units,
}

enum Verdict {
    AsExpected,
    Wrong(DriftKind, Option<FieldContent>),
}

impl Comparison<'_> {
    fn field(&mut self, field: &HoldsField, position: Offset) {
        if !self.seen.insert(field.name.clone()) {
            return;
        }
        self.actual.add(&field.content);
        let (verdict, user, order) = match &field.content {
            FieldContent::Hold(user, hold) => {
                let verdict = self.hold(*user, hold, field, position);
                (verdict, Some(*user), Some(hold.order_id))
            }
            FieldContent::Shrink { decided, .. } => {
                (self.shrink(field, *decided, position), None, None)
            }
            FieldContent::Unreadable => {
                let user: Option<UserId> = field.name.parse().ok();
                let live = user.and_then(|user| self.expected.live_of(user, position));
                let expected = live.map(settled);
                (Verdict::Wrong(DriftKind::WrongHold, expected), user, None)
            }
        };
        match verdict {
            Verdict::AsExpected => self.repaired.add(&field.content),
            Verdict::Wrong(kind, expected) => {
                self.again |= user.is_some_and(|u| self.expected.moved_since(u, position));
                self.wrong(kind, user, order, Some(field), expected.as_ref());
            }
        }
    }

    fn hold(&self, user: UserId, hold: &Hold, field: &HoldsField, position: Offset) -> Verdict {
        let live = self.expected.live_of(user, position);
        let known = self.expected.order(hold.order_id);
        match (hold.state, live) {
            (HoldState::Released, None) => Verdict::AsExpected,
            (HoldState::Settled, Some(order)) if is_of(hold, order) => Verdict::AsExpected,
            (HoldState::Released, Some(order)) => {
                Verdict::Wrong(DriftKind::MissingHold, Some(settled(order)))
            }
            (_, Some(order)) => Verdict::Wrong(DriftKind::WrongHold, Some(settled(order))),
            (HoldState::Held, None) => match known {
                Some(order) if order.reserved_offset >= position => Verdict::AsExpected,
                Some(_) => Verdict::Wrong(DriftKind::WrongHold, Some(released(user, hold))),
                None if (self.is_orphan)(field) => Verdict::Wrong(DriftKind::OrphanHold, None),
                None => Verdict::AsExpected,
            },
            (HoldState::Settled, None) => match known {
                Some(order) if order.reserved_offset < position => {
                    Verdict::Wrong(DriftKind::WrongHold, Some(released(user, hold)))
                }
                // It is not decided yet.
                Some(_) => Verdict::Wrong(DriftKind::WrongHold, Some(held(user, hold))),
                None => Verdict::Wrong(DriftKind::OrphanHold, None),
            },
        }
    }

    fn shrink(&self, field: &HoldsField, decided: bool, position: Offset) -> Verdict {
        let FieldContent::Shrink { event_id, .. } = field.content else {
            return Verdict::AsExpected;
        };
        let known = self.expected.shrink(event_id);
        match known {
            _ if decided => Verdict::AsExpected,
            Some(at) if at >= position => Verdict::AsExpected,
            Some(_) => {
                let mut expected = field.content.clone();
                if let FieldContent::Shrink { decided, .. } = &mut expected {
                    *decided = true;
                }
                Verdict::Wrong(DriftKind::WrongHold, Some(expected))
            }
            None if (self.is_orphan)(field) => Verdict::Wrong(DriftKind::OrphanHold, None),
            None => Verdict::AsExpected,
        }
    }

    /// Live orders, all through the walk, whose buyers have no field.
    fn missing(&mut self, from: Offset, to: Offset) {
        let (at_first, at_last) = (self.expected.live_at(from), self.expected.live_at(to));
        let mut missing: Vec<&Order> = at_first
            .into_values()
            .filter(|order| {
                let still = at_last.get(&order.user_id);
                still.is_some_and(|last| last.order_id == order.order_id)
                    && !self.seen.contains(&order.user_id.to_string())
            })
            .collect();
        missing.sort_unstable_by_key(|order| order.order_id);
        for order in missing {
            self.again |= self.expected.moved_since(order.user_id, from);
            let (user, expected) = (order.user_id, settled(order));
            let kind = DriftKind::MissingHold;
            self.wrong(
                kind,
                Some(user),
                Some(order.order_id),
                None,
                Some(&expected),
            );
        }
    }

    fn wrong(
        &mut self,
        kind: DriftKind,
        user: Option<UserId>,
        order: Option<OrderId>,
        field: Option<&HoldsField>,
        expected: Option<&FieldContent>,
    ) {
        if let Some(expected) = expected {
            self.repaired.add(expected);
        }
        let loses = field.and_then(|field| Loss::of(&field.content, expected));
        let expected = expected.and_then(FieldContent::to_text);
        let say = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), str::to_owned);
        self.drifts.push(Drift {
            kind,
            user,
            order,
            loses,
            field: field.map(|f| f.name.clone()),
            expected: say(expected.as_deref()),
            actual: say(field.map(|f| f.text.as_str())),
        });
        let name = field.map(|f| f.name.clone());
        let name = name.or_else(|| user.map(|user| user.to_string()));
        self.fixes.push(HoldCorrection {
            field: name.unwrap_or_default(),
            actual: field.map(|f| f.text.clone()),
            expected,
        });
    }

    fn terms(&mut self, numbers: &SaleNumbers) {
        let (sale, actual) = (self.expected.sale(), &numbers.terms);
        let terms = &sale.terms;
        let same = actual.max_quantity == terms.max_quantity
            && actual.price_cents == terms.price.cents()
            && actual.currency == terms.price.currency()
            && actual.opens_at == terms.opens_at
            && actual.closes_at == terms.closes_at
            && actual.hold_us == i64::from(terms.hold_seconds) * 1_000_000
            && actual.requires_sale_token == terms.requires_sale_token;
        let closed = self.expected.closed_at(numbers.position);
        if same && closed == numbers.sale_closed {
            return;
        }
        self.drifts.push(Drift {
            kind: DriftKind::Terms,
            user: None,
            order: None,
            loses: None,
            field: None,
            expected: format!("{terms:?}, closed: {closed}"),
            actual: format!("{actual:?}, closed: {}", numbers.sale_closed),
        });
    }

    /// If all pages are of one moment, the sale's numbers have to be the sums of its holds. If not, the
    /// numbers can still be compared with each other: units in flight are on both sides of each sum.
    fn finish(mut self, last: &ScanPage, at_one_moment: bool) -> DriftReport {
        let numbers = &last.numbers;
        let available = self.expected.available_at(numbers.position);
        let live: HashMap<_, _> = self.expected.live_at(numbers.position);
        let live: i64 = live.values().map(|o| i64::from(o.quantity)).sum();
        let (mut actual, mut repaired) = (self.actual, self.repaired);
        if !at_one_moment {
            // Fewer held than live and unsettled may be a shrink that was taken during the walk.
            let held = numbers.held.min(live + numbers.unsettled);
            let unsettled = numbers.unsettled;
            actual = Units { held, unsettled };
            repaired = actual;
        }
        let kind_before = self.drifts.len();
        let stock = (available - actual.unsettled, available - repaired.unsettled);
        self.number(DriftKind::Stock, numbers.stock, stock);
        self.number(DriftKind::Held, numbers.held, (actual.held, repaired.held));
        let unsettled = (actual.unsettled, repaired.unsettled);
        self.number(DriftKind::Unsettled, numbers.unsettled, unsettled);
        let numbers_differ = self.drifts.len() > kind_before;
        let removes_units = self.fixes.iter().any(|fix| fix.expected.is_none());
        // If the pages are of several moments, it is not known which number includes the hold that is removed.
        let ambiguous =
            !at_one_moment && (removes_units || (numbers_differ && numbers.held != repaired.held));
        let terms = self.drifts.iter().any(|d| d.kind == DriftKind::Terms);
        let repair = if self.drifts.is_empty() {
            Repair::None
        } else if terms || ambiguous || self.fixes.len() > MAX_ITEMS {
            Repair::Reload
        } else if self.again {
            Repair::Again
        } else {
            Repair::Correct(Correction {
                epoch: numbers.epoch,
                from: numbers.position,
                // Grants and settles change a wrong number, and it stays wrong by the same amount.
                to: if self.fixes.is_empty() {
                    Offset::new(i64::MAX)
                } else {
                    self.expected.position()
                },
                corrections: numbers.corrections,
                stock: stock.1 - numbers.stock,
                held: repaired.held - numbers.held,
                unsettled: repaired.unsettled - numbers.unsettled,
                holds: self.fixes,
            })
        };
        DriftReport {
            drifts: self.drifts,
            repair,
        }
    }

    /// Reports a number that is neither the sum of the holds as they are, nor their sum after the repair.
    fn number(&mut self, kind: DriftKind, number: i64, (actual, repaired): (i64, i64)) {
        if number != actual && number != repaired {
            self.drifts.push(Drift {
                kind,
                user: None,
                order: None,
                loses: None,
                field: None,
                expected: format!("{repaired} units"),
                actual: format!("{number} units"),
            });
        }
    }
}

#[cfg(test)]
mod tests;
