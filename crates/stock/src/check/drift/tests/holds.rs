//! Holds and taken shrinks, each against the order or the adjustment that it is for.

use seckill_domain::{EventId, Offset, OrderStatus, Timestamp};
use uuid::Uuid;

use super::{Case, HERE, SHRINK, expect, expect_none, field, hold, shrink, sound};
use crate::calls::scan::{FieldContent, HoldsField};
use crate::calls::view::{Hold, HoldState};
use crate::check::contents::Loss;
use crate::check::drift::DriftKind;
use crate::check::samples::{ended, order};

#[test]
fn a_hold_that_is_not_its_orders_is_named_and_repaired() {
    use DriftKind::{MissingHold, WrongHold};
    let first = |c: &mut Case, change: fn(&mut Hold)| {
        let found = c.fields.iter_mut().find(|f| f.name == "1").unwrap();
        let FieldContent::Hold(user, mut hold) = found.content.clone() else {
            unreachable!("buyer 1 has a hold");
        };
        change(&mut hold);
        *found = field("1".to_owned(), FieldContent::Hold(user, hold));
    };
    let without = |c: &mut Case| c.fields.retain(|f| f.name != "1");
    let counted_out = Case::with(|c| {
        without(c);
        c.count(0, -2, 0);
    });
    expect(vec![
        (
            "gone",
            Case::with(without),
            &[MissingHold],
            [0, 0, 0],
            &[("1", true)],
        ),
        (
            "gone, and not counted",
            counted_out,
            &[MissingHold],
            [0, 2, 0],
            &[("1", true)],
        ),
        (
            "released",
            Case::with(|c| first(c, |hold| hold.state = HoldState::Released)),
            &[MissingHold],
            [0, 0, 0],
            &[("1", true)],
        ),
        (
            "of other units",
            Case::with(|c| first(c, |hold| hold.quantity = 3)),
            &[WrongHold],
            [0, 0, 0],
            &[("1", true)],
        ),
        (
            "of another order",
            Case::with(|c| first(c, |hold| hold.order_id = order(9, 2, 10).order_id)),
            &[WrongHold],
            [0, 0, 0],
            &[("1", true)],
        ),
        (
            "not settled",
            Case::with(|c| first(c, |hold| hold.state = HoldState::Held)),
            &[WrongHold],
            [0, 0, 0],
            &[("1", true)],
        ),
    ]);
}

#[test]
fn a_hold_without_a_live_order_is_named_and_repaired() {
    use DriftKind::{OrphanHold, WrongHold};
    let lingering = |state| {
        Case::with(|c| {
            c.fields.retain(|f| f.name != "2");
            c.fields.push(hold(&c.orders[1], state));
            let unsettled = i64::from(state == HoldState::Held);
            c.count(-1, 1, unsettled);
        })
    };
    let unknown = |state| {
        Case::with(|c| {
            c.fields.push(hold(&order(9, 3, 50), state));
            let unsettled = if state == HoldState::Held { 3 } else { 0 };
            c.count(-3, 3, unsettled);
        })
    };
    let stock = DriftKind::Stock;
    expect(vec![
        (
            "held for an expired order",
            lingering(HoldState::Held),
            &[WrongHold],
            [1, -1, -1],
            &[("2", true)],
        ),
        (
            "settled for an expired order",
            lingering(HoldState::Settled),
            &[WrongHold, stock],
            [1, -1, 0],
            &[("2", true)],
        ),
        (
            "held for nobody",
            unknown(HoldState::Held),
            &[OrphanHold],
            [3, -3, -3],
            &[("9", false)],
        ),
        (
            "settled for nobody",
            unknown(HoldState::Settled),
            &[OrphanHold, stock],
            [3, -3, 0],
            &[("9", false)],
        ),
    ]);
}

#[test]
fn what_a_buyer_may_have_been_promised_and_loses_is_named() {
    let (live, gone, unknown) = (order(1, 2, 10), order(2, 1, 20), order(9, 3, 50));
    let losses = |change: &dyn Fn(&mut Case)| {
        let found = Case::with(change).report().drifts;
        found.iter().find_map(|drift| drift.loses)
    };
    let instead = |name: &'static str, of: HoldsField| {
        losses(&move |c| {
            c.fields.retain(|f| f.name != name);
            c.fields.push(of.clone());
        })
    };
    let settled = HoldState::Settled;
    for (what, loses, expected) in [
        (
            "an order's that is over",
            instead("2", hold(&gone, settled)),
            Some(gone.order_id),
        ),
        (
            "nobody's",
            instead("9", hold(&unknown, settled)),
            Some(unknown.order_id),
        ),
        ("its own", instead("1", hold(&live, HoldState::Held)), None),
        (
            "one that was given back",
            instead("1", hold(&live, HoldState::Released)),
            None,
        ),
    ] {
        assert_eq!(loses, expected.map(Loss::Order), "{what}");
    }
    let FieldContent::Hold(_, other) = hold(&unknown, settled).content else {
        unreachable!("a hold");
    };
    let of_another = field("1".to_owned(), FieldContent::Hold(live.user_id, other));
    assert_eq!(
        instead("1", of_another),
        Some(Loss::Order(unknown.order_id))
    );
    let event_id = EventId::from_uuid(Uuid::from_u128(SHRINK));
    let taken = |c: &mut Case| {
        c.fields.push(shrink(4, false));
        c.count(-4, 0, 4);
    };
    assert_eq!(losses(&taken), Some(Loss::Shrink(event_id)));
    let unreadable = field("5".to_owned(), FieldContent::Unreadable);
    assert_eq!(instead("5", unreadable), Some(Loss::Unreadable));
}

#[test]
fn a_field_that_no_script_writes_is_named_and_repaired() {
    use DriftKind::WrongHold;
    let unreadable = |name: &'static str| {
        Case::with(move |c| {
            c.fields.retain(|f| f.name != name);
            c.fields
                .push(field(name.to_owned(), FieldContent::Unreadable));
        })
    };
    expect(vec![
        (
            "unreadable, of a live order",
            unreadable("1"),
            &[WrongHold],
            [0, 0, 0],
            &[("1", true)],
        ),
        (
            "unreadable, of none",
            unreadable("5"),
            &[WrongHold],
            [0, 0, 0],
            &[("5", false)],
        ),
        (
            "no buyer's",
            unreadable("x"),
            &[WrongHold],
            [0, 0, 0],
            &[("x", false)],
        ),
    ]);
}

#[test]
fn a_shrink_is_compared_with_its_decision() {
    let name = format!("adj:{}", EventId::from_uuid(Uuid::from_u128(SHRINK)));
    let taken = |c: &mut Case| {
        c.fields.push(shrink(4, false));
        c.count(-4, 0, 4);
    };
    let kept = Case::with(|c| {
        taken(c);
        c.decided(4, true, 50);
        c.sale.available -= 4;
    });
    expect(vec![
        (
            "never to be decided",
            Case::with(taken),
            &[DriftKind::OrphanHold],
            [4, 0, -4],
            &[(&name, false)],
        ),
        (
            "decided here long ago, and still counted",
            kept,
            &[DriftKind::WrongHold],
            [0, 0, -4],
            &[(&name, true)],
        ),
    ]);
    expect_none(vec![
        (
            "on its way",
            Case::with(|c| {
                taken(c);
                c.orphans = false;
            }),
        ),
        (
            "decided after Redis' position",
            Case::with(|c| {
                taken(c);
                c.decided(4, true, HERE);
                c.sale.available -= 4;
                c.read_at = HERE + 1;
            }),
        ),
        (
            "settled as decided",
            Case::with(|c| {
                c.fields.push(shrink(4, true));
                c.count(-4, 0, 0);
                c.decided(4, true, 50);
                c.sale.available -= 4;
            }),
        ),
    ]);
}

/// What is in flight, in either direction, is no difference.
#[test]
fn what_is_on_its_way_is_no_difference() {
    let granted = |c: &mut Case| {
        c.fields.push(hold(&order(9, 3, HERE), HoldState::Held));
        c.count(-3, 3, 3);
    };
    expect_none(vec![
        ("sound", sound()),
        (
            "granted, and not in the log",
            Case::with(|c| {
                granted(c);
                c.orphans = false;
            }),
        ),
        (
            "granted, and decided after Redis' position",
            Case::with(|c| {
                granted(c);
                c.orders.push(order(9, 3, HERE));
                c.sale.available -= 3;
                c.read_at = HERE + 1;
            }),
        ),
        (
            "expired after Redis' position",
            Case::with(|c| {
                c.orders[0] = ended(c.orders[0].clone(), OrderStatus::Expired, HERE);
                c.sale.available += 2;
                c.read_at = HERE + 1;
            }),
        ),
        (
            "closed after Redis' position",
            Case::with(|c| {
                c.sale.closed = Some((Timestamp::from_micros(1), Offset::new(HERE)));
                c.read_at = HERE + 1;
            }),
        ),
    ]);
}
