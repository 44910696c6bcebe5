//! The sale's numbers and terms, walks through it that take time, and what repairs all of it.

use seckill_domain::{Epoch, Offset, OrderStatus, Timestamp};

use super::{Case, HERE, correction, expect, hold, kinds, sound};
use crate::calls::scan::GrantTerms;
use crate::calls::view::HoldState;
use crate::check::drift::{DriftKind, Repair, at_one_moment};
use crate::check::samples::{ended, order, user};
use crate::redis::script::MAX_ITEMS;

#[test]
fn a_number_that_is_off_is_named_and_repaired() {
    use DriftKind::{Held, Stock, Unsettled};
    let off = |stock, held, unsettled| Case::with(|c| c.count(stock, held, unsettled));
    expect(vec![
        ("a unit too many", off(1, 0, 0), &[Stock], [-1, 0, 0], &[]),
        ("a unit too few", off(-1, 0, 0), &[Stock], [1, 0, 0], &[]),
        ("held too many", off(0, 3, 0), &[Held], [0, -3, 0], &[]),
        (
            "unsettled too many",
            off(0, 0, 1),
            &[Unsettled],
            [0, 0, -1],
            &[],
        ),
        (
            "all three",
            off(1, -1, 2),
            &[Stock, Held, Unsettled],
            [-1, 1, -2],
            &[],
        ),
    ]);
}

#[test]
fn other_terms_are_mended_by_a_load() {
    let closed = Case::with(|c| c.numbers.sale_closed = true);
    let not_closed = Case::with(|c| {
        c.sale.closed = Some((Timestamp::from_micros(1), Offset::new(HERE - 1)));
    });
    let other = |change: fn(&mut GrantTerms)| Case::with(|c| change(&mut c.numbers.terms));
    for (what, case) in [
        ("closed", closed),
        ("not closed", not_closed),
        ("limit", other(|terms| terms.max_quantity += 1)),
        ("price", other(|terms| terms.price_cents += 1)),
        (
            "currency",
            other(|terms| terms.currency = "CHF".parse().unwrap()),
        ),
        (
            "opening",
            other(|terms| terms.opens_at = Timestamp::from_micros(1)),
        ),
        (
            "end",
            other(|terms| terms.closes_at = Timestamp::from_micros(1)),
        ),
        ("time to pay", other(|terms| terms.hold_us += 1)),
        (
            "sale tokens",
            other(|terms| terms.requires_sale_token = true),
        ),
    ] {
        let report = case.report();
        assert_eq!(kinds(&report), [DriftKind::Terms], "{what}");
        assert_eq!(report.repair, Repair::Reload, "{what}");
    }
}

/// The log moved on in a way that bears on the repair, so what is right now is not known.
#[test]
fn a_hold_whose_order_has_moved_since_is_scanned_again() {
    let ahead = |c: &mut Case| {
        c.fields.retain(|f| f.name != "1");
        c.orders[0] = ended(c.orders[0].clone(), OrderStatus::Expired, HERE);
        c.sale.available += 2;
        c.read_at = HERE + 1;
    };
    let report = Case::with(ahead).report();
    assert_eq!(kinds(&report), [DriftKind::MissingHold]);
    assert_eq!(report.repair, Repair::Again);

    let settled_early = Case::with(|c| {
        c.fields.push(hold(&order(9, 3, HERE), HoldState::Settled));
        c.count(-3, 3, 3);
        c.orders.push(order(9, 3, HERE));
        c.sale.available -= 3;
        c.read_at = HERE + 1;
    });
    let report = settled_early.report();
    assert_eq!(report.drifts[0].kind, DriftKind::WrongHold);
    assert_eq!(report.repair, Repair::Again);
}

#[test]
fn what_cannot_be_compared_is_not() {
    let case = sound();
    assert_eq!(case.compare_pages(&[]), None);
    let behind = Case::with(|c| c.read_at = HERE - 1);
    assert_eq!(behind.compare_pages(&[behind.page()]), None);
    let other_epoch = Case::with(|c| c.numbers.epoch = Epoch::new(2));
    assert_eq!(other_epoch.compare_pages(&[other_epoch.page()]), None);
    // One page of another load is enough.
    assert_eq!(case.compare_pages(&[case.page(), other_epoch.page()]), None);
}

#[test]
fn a_walk_that_took_more_than_a_moment_compares_sums() {
    let case = sound();
    let later = |stock: i64, held: i64, unsettled: i64| {
        let mut page = case.page();
        page.numbers.stock += stock;
        page.numbers.held += held;
        page.numbers.unsettled += unsettled;
        page.fields.clear();
        page
    };
    // Somebody was granted three units between the pages, and their hold was in neither.
    let granted = [case.page(), later(-3, 3, 3)];
    assert!(!at_one_moment(&granted));
    let report = case.compare_pages(&granted).unwrap();
    assert_eq!(report.repair, Repair::None, "{report:#?}");

    // The same, and a unit is missing.
    let report = case.compare_pages(&[case.page(), later(-4, 3, 3)]).unwrap();
    assert_eq!(kinds(&report), [DriftKind::Stock]);
    assert_eq!(correction(&report), Some(([1, 0, 0], Vec::new())));

    // A field that the walk came by twice is one field; the clock alone is no other moment.
    let mut twice = [case.page(), case.page()];
    twice[1].numbers.now = Timestamp::from_micros(9);
    assert!(at_one_moment(&twice));
    let report = case.compare_pages(&twice).unwrap();
    assert_eq!(report.repair, Repair::None, "{report:#?}");

    // Which number counts a hold that goes is not known: the sale is loaded.
    let orphan = Case::with(|c| c.fields.push(hold(&order(9, 3, 50), HoldState::Settled)));
    let report = orphan
        .compare_pages(&[orphan.page(), later(-3, 3, 3)])
        .unwrap();
    assert!(kinds(&report).contains(&DriftKind::OrphanHold));
    assert_eq!(report.repair, Repair::Reload);
}

#[test]
fn more_than_one_call_may_change_is_a_load() {
    let many = i64::try_from(MAX_ITEMS).unwrap();
    let missing = |count: i64| {
        Case::with(|c| {
            c.orders.extend((0..count).map(|n| order(100 + n, 1, 40)));
            c.sale.available -= count;
            c.count(-count, count, 0);
        })
    };
    let report = missing(many).report();
    assert_eq!(report.drifts.len(), MAX_ITEMS);
    assert!(correction(&report).is_some());
    assert_eq!(missing(many + 1).report().repair, Repair::Reload);
}

#[test]
fn a_difference_says_whose_it_is_and_both_sides() {
    let mut case = sound();
    case.fields.retain(|f| f.name != "1");
    let [drift] = &case.report().drifts[..] else {
        panic!("one difference");
    };
    assert_eq!(
        (drift.user, drift.order),
        (Some(user(1)), Some(case.orders[0].order_id))
    );
    assert_eq!(
        (drift.field.as_deref(), drift.actual.as_str()),
        (None, "none")
    );
    assert!(drift.expected.contains("|2|s|"), "{drift:?}");
    assert_eq!(drift.kind.as_str(), "missing-hold");
}
