//! A sale in Redis that is as the log has it, and each way to be otherwise.

mod holds;
mod numbers;

use seckill_domain::{Epoch, EventId, Offset, Order, OrderStatus, Sale, Timestamp};
use uuid::Uuid;

use super::{DriftKind, DriftReport, Repair, compare};
use crate::calls::correct::Correction;
use crate::calls::scan::{FieldContent, GrantTerms, HoldsField, SaleNumbers, ScanPage};
use crate::calls::view::{Hold, HoldState};
use crate::check::contents::settled;
use crate::check::expected::ExpectedSale;
use crate::check::samples::{STOCK, ended, order, sale, terms};

/// Where Redis stands, and where the log was read unless a case says otherwise.
const HERE: i64 = 100;

/// Both sides of a comparison.
struct Case {
    sale: Sale,
    read_at: i64,
    orders: Vec<Order>,
    adjustments: Vec<(EventId, i64, bool, Offset)>,
    numbers: SaleNumbers,
    fields: Vec<HoldsField>,
    /// Whether what the log does not know never comes.
    orphans: bool,
}

/// Buyer 1 has two units; buyer 2 had one that expired; nothing else.
fn sound() -> Case {
    let terms = terms();
    let live = order(1, 2, 10);
    let gone = ended(order(2, 1, 20), OrderStatus::Expired, 30);
    let mut case = Case {
        sale: sale(STOCK - 2),
        read_at: HERE,
        fields: vec![
            hold(&live, HoldState::Settled),
            hold(&gone, HoldState::Released),
        ],
        orders: vec![live, gone],
        adjustments: Vec::new(),
        numbers: SaleNumbers {
            stock: STOCK - 2,
            held: 2,
            unsettled: 0,
            epoch: Epoch::FIRST,
            position: Offset::new(HERE),
            sale_closed: false,
            terms: GrantTerms {
                max_quantity: terms.max_quantity,
                price_cents: terms.price.cents(),
                currency: terms.price.currency(),
                opens_at: terms.opens_at,
                closes_at: terms.closes_at,
                hold_us: i64::from(terms.hold_seconds) * 1_000_000,
                requires_sale_token: terms.requires_sale_token,
            },
            corrections: 0,
            now: Timestamp::from_micros(0),
        },
        orphans: true,
    };
    case.fields.reverse();
    case
}

fn field(name: String, content: FieldContent) -> HoldsField {
    let text = content.to_text().unwrap_or_else(|| "?".to_owned());
    HoldsField {
        name,
        text,
        content,
        pending: false,
    }
}

fn hold(of: &Order, state: HoldState) -> HoldsField {
    let FieldContent::Hold(user, whole) = settled(of) else {
        unreachable!("an order's hold is a hold");
    };
    let content = FieldContent::Hold(user, Hold { state, ..whole });
    field(user.get().to_string(), content)
}

const SHRINK: u128 = 77;

fn shrink(units: i64, decided: bool) -> HoldsField {
    let event_id = EventId::from_uuid(Uuid::from_u128(SHRINK));
    let at = Timestamp::from_micros(1);
    field(
        format!("adj:{event_id}"),
        FieldContent::Shrink {
            event_id,
            units,
            at,
            decided,
        },
    )
}

impl Case {
    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = sound();
        change(&mut case);
        case
    }

    /// Adds to the three numbers.
    fn count(&mut self, stock: i64, held: i64, unsettled: i64) {
        self.numbers.stock += stock;
        self.numbers.held += held;
        self.numbers.unsettled += unsettled;
    }

    fn decided(&mut self, units: i64, accepted: bool, at: i64) {
        let event_id = EventId::from_uuid(Uuid::from_u128(SHRINK));
        self.adjustments
            .push((event_id, -units, accepted, Offset::new(at)));
    }

    fn page(&self) -> ScanPage {
        ScanPage {
            load: String::new(),
            numbers: self.numbers.clone(),
            fields: self.fields.clone(),
        }
    }

    fn compare_pages(&self, pages: &[ScanPage]) -> Option<DriftReport> {
        let expected = ExpectedSale::new(
            self.sale.clone(),
            Offset::new(self.read_at),
            self.orders.clone(),
            self.adjustments.clone(),
        );
        compare(pages, &expected, &|_| self.orphans)
    }

    fn report(&self) -> DriftReport {
        self.compare_pages(&[self.page()]).unwrap()
    }
}

fn kinds(report: &DriftReport) -> Vec<DriftKind> {
    report.drifts.iter().map(|drift| drift.kind).collect()
}

/// What is added to stock, held and unsettled, and the fields that are written: name and whether it stays.
type Change = ([i64; 3], Vec<(String, bool)>);

fn correction(report: &DriftReport) -> Option<Change> {
    let Repair::Correct(Correction {
        stock,
        held,
        unsettled,
        holds,
        ..
    }) = &report.repair
    else {
        return None;
    };
    let holds = holds
        .iter()
        .map(|fix| (fix.field.clone(), fix.expected.is_some()));
    Some(([*stock, *held, *unsettled], holds.collect()))
}

/// What it is, its kinds of difference, and its repair as [`Change`] has it.
type Wrong<'a> = (
    &'a str,
    Case,
    &'a [DriftKind],
    [i64; 3],
    &'a [(&'a str, bool)],
);

/// Each is found to be wrong in this way, and is repaired in this way.
fn expect(cases: Vec<Wrong<'_>>) {
    for (what, case, differences, numbers, fields) in cases {
        let report = case.report();
        assert_eq!(kinds(&report), differences, "{what}: {report:#?}");
        let fields: Vec<_> = fields
            .iter()
            .map(|(f, stays)| ((*f).to_owned(), *stays))
            .collect();
        assert_eq!(correction(&report), Some((numbers, fields)), "{what}");
    }
}

/// Each is no difference at all.
fn expect_none(cases: Vec<(&str, Case)>) {
    for (what, case) in cases {
        let report = case.report();
        assert_eq!(kinds(&report), [], "{what}: {report:#?}");
        assert_eq!(report.repair, Repair::None, "{what}");
    }
}
