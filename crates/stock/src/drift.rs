//! Redis against the log: what differs at the sale's own position, and what puts it right. Units in
//! flight are no difference.

use std::collections::{HashMap, HashSet};

use seckill_domain::{Offset, Order, OrderId, UserId};

use crate::contents::{Loss, Units, held, is_of, released, settled};
use crate::truth::SaleTruth;
use crate::{
    AuditContent, AuditField, AuditNumbers, AuditPage, Correction, Hold, HoldCorrection, HoldState,
    MAX_ITEMS,
};

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
    /// A hold is there and is not what the log says it is.
    WrongHold,
    /// A hold whose order the log does not know, and never will.
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
    pub found: String,
}

/// What puts a sale right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// There is nothing to do.
    None,
    /// The log is ahead of what was read in a way that bears on it: audit again.
    Again,
    /// A guarded correction. The sale stays open.
    Correct(Correction),
    /// A load. The sale is not served for about the promise deadline.
    Reload,
}

/// What an audit of one sale found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The differences.
    pub drifts: Vec<Drift>,
    /// What puts them right.
    pub remedy: Remedy,
}

/// Compares the pages of one walk with `truth`, which was read after it. `is_orphan` says of a hold or a
/// taken shrink that the log does not know, by when it was granted and whether its event is pending,
/// whether it never will; otherwise it is in flight. None: `truth` was read before a record that
/// Redis has settled already, or is of another epoch, or the sale was loaded anew during the walk.
#[must_use]
pub fn compare(
    pages: &[AuditPage],
    truth: &SaleTruth,
    is_orphan: &dyn Fn(&AuditField) -> bool,
) -> Option<Findings> {
    let (first, last) = (pages.first()?, pages.last()?);
    let epoch = truth.sale().epoch;
    let comparable =
        |page: &AuditPage| page.numbers.epoch == epoch && page.numbers.position <= truth.position();
    if !pages.iter().all(comparable) {
        return None;
    }
    let mut audit = Audit {
        truth,
        is_orphan,
        drifts: Vec::new(),
        fixes: Vec::new(),
        again: false,
        seen: HashSet::new(),
        found: Units::default(),
        right: Units::default(),
    };
    for page in pages {
        for field in &page.fields {
            audit.field(field, page.numbers.position);
        }
    }
    audit.missing(first.numbers.position, last.numbers.position);
    audit.terms(&last.numbers);
    Some(audit.finish(last, at_one_moment(pages)))
}

/// Whether the pages of one walk were all seen at one moment. If not, numbers can be held against each
/// other only in sum, and a walk when less is going on sees more.
#[must_use]
pub fn at_one_moment(pages: &[AuditPage]) -> bool {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else {
        return false;
    };
    // Between two loads nothing but a settle, which moves the position, undoes what a grant does.
    let as_of_last = AuditNumbers {
        now: last.numbers.now,
        ..first.numbers.clone()
    };
    as_of_last == last.numbers
}

struct Audit<'a> {
    truth: &'a SaleTruth,
    is_orphan: &'a dyn Fn(&AuditField) -> bool,
    drifts: Vec<Drift>,
    fixes: Vec<HoldCorrection>,
    /// A fix depends on something that the log has decided on since.
    again: bool,
    /// A field may be in two pages.
    seen: HashSet<String>,
    /// By the holds as they are, and as they will be.
    found: Units,
    right: Units,
}

enum Verdict {
    Right,
    Wrong(DriftKind, Option<AuditContent>),
}

impl Audit<'_> {
    fn field(&mut self, field: &AuditField, position: Offset) {
        if !self.seen.insert(field.name.clone()) {
            return;
        }
        self.found.add(&field.content);
        let (verdict, user, order) = match &field.content {
            AuditContent::Hold(user, hold) => {
                let verdict = self.hold(*user, hold, field, position);
                (verdict, Some(*user), Some(hold.order_id))
            }
            AuditContent::Shrink { decided, .. } => {
                (self.shrink(field, *decided, position), None, None)
            }
            AuditContent::Unreadable => {
                let user: Option<UserId> = field.name.parse().ok();
                let live = user.and_then(|user| self.truth.live_of(user, position));
                let right = live.map(settled);
                (Verdict::Wrong(DriftKind::WrongHold, right), user, None)
            }
        };
        match verdict {
            Verdict::Right => self.right.add(&field.content),
            Verdict::Wrong(kind, right) => {
                self.again |= user.is_some_and(|u| self.truth.moved_since(u, position));
                self.wrong(kind, user, order, Some(field), right.as_ref());
            }
        }
    }

    fn hold(&self, user: UserId, hold: &Hold, field: &AuditField, position: Offset) -> Verdict {
        let live = self.truth.live_of(user, position);
        let known = self.truth.order(hold.order_id);
        match (hold.state, live) {
            (HoldState::Released, None) => Verdict::Right,
            (HoldState::Settled, Some(order)) if is_of(hold, order) => Verdict::Right,
            (HoldState::Released, Some(order)) => {
                Verdict::Wrong(DriftKind::MissingHold, Some(settled(order)))
            }
            (_, Some(order)) => Verdict::Wrong(DriftKind::WrongHold, Some(settled(order))),
            (HoldState::Held, None) => match known {
                Some(order) if order.reserved_offset >= position => Verdict::Right,
                Some(_) => Verdict::Wrong(DriftKind::WrongHold, Some(released(user, hold))),
                None if (self.is_orphan)(field) => Verdict::Wrong(DriftKind::OrphanHold, None),
                None => Verdict::Right,
            },
            (HoldState::Settled, None) => match known {
                Some(order) if order.reserved_offset < position => {
                    Verdict::Wrong(DriftKind::WrongHold, Some(released(user, hold)))
                }
                // Its decision is still to come, and cannot be known here.
                Some(_) => Verdict::Wrong(DriftKind::WrongHold, Some(held(user, hold))),
                None => Verdict::Wrong(DriftKind::OrphanHold, None),
            },
        }
    }

    fn shrink(&self, field: &AuditField, decided: bool, position: Offset) -> Verdict {
        let AuditContent::Shrink { event_id, .. } = field.content else {
            return Verdict::Right;
        };
        let known = self.truth.shrink(event_id);
        match known {
            _ if decided => Verdict::Right,
            Some(at) if at >= position => Verdict::Right,
            Some(_) => {
                let mut right = field.content.clone();
                if let AuditContent::Shrink { decided, .. } = &mut right {
                    *decided = true;
                }
                Verdict::Wrong(DriftKind::WrongHold, Some(right))
            }
            None if (self.is_orphan)(field) => Verdict::Wrong(DriftKind::OrphanHold, None),
            None => Verdict::Right,
        }
    }

    /// Live orders, all through the walk, whose buyers have no field.
    fn missing(&mut self, from: Offset, to: Offset) {
        let (at_first, at_last) = (self.truth.live_at(from), self.truth.live_at(to));
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
            self.again |= self.truth.moved_since(order.user_id, from);
            let (user, right) = (order.user_id, settled(order));
            let kind = DriftKind::MissingHold;
            self.wrong(kind, Some(user), Some(order.order_id), None, Some(&right));
        }
    }

    fn wrong(
        &mut self,
        kind: DriftKind,
        user: Option<UserId>,
        order: Option<OrderId>,
        field: Option<&AuditField>,
        right: Option<&AuditContent>,
    ) {
        if let Some(right) = right {
            self.right.add(right);
        }
        let loses = field.and_then(|field| Loss::of(&field.content, right));
        let right = right.and_then(AuditContent::to_text);
        let say = |text: Option<&str>| text.map_or_else(|| "none".to_owned(), str::to_owned);
        self.drifts.push(Drift {
            kind,
            user,
            order,
            loses,
            field: field.map(|f| f.name.clone()),
            expected: say(right.as_deref()),
            found: say(field.map(|f| f.text.as_str())),
        });
        let name = field.map(|f| f.name.clone());
        let name = name.or_else(|| user.map(|user| user.to_string()));
        self.fixes.push(HoldCorrection {
            field: name.unwrap_or_default(),
            seen: field.map(|f| f.text.clone()),
            right,
        });
    }

    fn terms(&mut self, numbers: &AuditNumbers) {
        let (sale, found) = (self.truth.sale(), &numbers.terms);
        let terms = &sale.terms;
        let right = found.max_quantity == terms.max_quantity
            && found.price_cents == terms.price.cents()
            && found.currency == terms.price.currency()
            && found.opens_at == terms.opens_at
            && found.closes_at == terms.closes_at
            && found.hold_us == i64::from(terms.hold_seconds) * 1_000_000
            && found.requires_sale_token == terms.requires_sale_token;
        let closed = self.truth.closed_at(numbers.position);
        if right && closed == numbers.sale_closed {
            return;
        }
        self.drifts.push(Drift {
            kind: DriftKind::Terms,
            user: None,
            order: None,
            loses: None,
            field: None,
            expected: format!("{terms:?}, closed: {closed}"),
            found: format!("{found:?}, closed: {}", numbers.sale_closed),
        });
    }

    /// Where the whole sale was seen at one moment, its numbers are those of its holds. Where it was not,
    /// they can still be held against each other: what is in flight is in both sides of each sum.
    fn finish(mut self, last: &AuditPage, at_one_moment: bool) -> Findings {
        let numbers = &last.numbers;
        let available = self.truth.available_at(numbers.position);
        let live: HashMap<_, _> = self.truth.live_at(numbers.position);
        let live: i64 = live.values().map(|o| i64::from(o.quantity)).sum();
        let (mut found, mut right) = (self.found, self.right);
        if !at_one_moment {
            // Fewer held than live and unsettled may be a shrink that was taken during the walk.
            let held = numbers.held.min(live + numbers.unsettled);
            let unsettled = numbers.unsettled;
            found = Units { held, unsettled };
            right = found;
        }
        let kind_before = self.drifts.len();
        let stock = (available - found.unsettled, available - right.unsettled);
        self.number(DriftKind::Stock, numbers.stock, stock);
        self.number(DriftKind::Held, numbers.held, (found.held, right.held));
        let unsettled = (found.unsettled, right.unsettled);
        self.number(DriftKind::Unsettled, numbers.unsettled, unsettled);
        let numbers_differ = self.drifts.len() > kind_before;
        let removes_units = self.fixes.iter().any(|fix| fix.right.is_none());
        // Without one moment it is not known which of the numbers counts the hold that goes.
        let ambiguous =
            !at_one_moment && (removes_units || (numbers_differ && numbers.held != right.held));
        let terms = self.drifts.iter().any(|d| d.kind == DriftKind::Terms);
        let remedy = if self.drifts.is_empty() {
            Remedy::None
        } else if terms || ambiguous || self.fixes.len() > MAX_ITEMS {
            Remedy::Reload
        } else if self.again {
            Remedy::Again
        } else {
            Remedy::Correct(Correction {
                epoch: numbers.epoch,
                from: numbers.position,
                // What is granted and settled meanwhile moves a number that is off and leaves it off by
                // as much.
                to: if self.fixes.is_empty() {
                    Offset::new(i64::MAX)
                } else {
                    self.truth.position()
                },
                corrections: numbers.corrections,
                stock: stock.1 - numbers.stock,
                held: right.held - numbers.held,
                unsettled: right.unsettled - numbers.unsettled,
                holds: self.fixes,
            })
        };
        Findings {
            drifts: self.drifts,
            remedy,
        }
    }

    /// A number that is neither what the holds as they are say, nor as they will be.
    fn number(&mut self, kind: DriftKind, actual: i64, (found, right): (i64, i64)) {
        if actual != found && actual != right {
            self.drifts.push(Drift {
                kind,
                user: None,
                order: None,
                loses: None,
                field: None,
                expected: format!("{right} units"),
                found: format!("{actual} units"),
            });
        }
    }
}

#[cfg(test)]
mod tests;
