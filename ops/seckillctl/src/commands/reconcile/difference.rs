//! One line of reconcile's report.

use std::collections::HashSet;

use seckill_domain::{EventId, OrderId, VoucherId};
use seckill_orderbook::{AcceptedLog, RowDifference, RowDifferenceKind, RowLoss};
use seckill_stock::{Drift, Loss, Repair};
use serde_json::{Value, json};

use super::evidence::Evidence;
use crate::output::{moment, printable, table};

/// A longer cell is cut in the table. The JSON contains all of it.
const CELL_MAX_CHARS: usize = 72;

/// Something that a repair removes, although it may have been promised to a buyer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Removal {
    /// An order, or its hold.
    Order(OrderId),
    /// The refund of this payment.
    Refund(String),
    /// The units that a shrink with this event has taken.
    Shrink(EventId),
    /// A field that cannot be read.
    Unreadable,
}

impl From<RowLoss> for Removal {
    fn from(loss: RowLoss) -> Self {
        match loss {
            RowLoss::Order(id) => Self::Order(id),
            RowLoss::Refund(payment) => Self::Refund(payment),
        }
    }
}

impl From<Loss> for Removal {
    fn from(loss: Loss) -> Self {
        match loss {
            Loss::Order(id) => Self::Order(id),
            Loss::Shrink(id) => Self::Shrink(id),
            Loss::Unreadable => Self::Unreadable,
        }
    }
}

/// A difference between two stores.
#[derive(Debug, Clone)]
pub(super) struct Difference {
    pub(super) voucher: VoucherId,
    pub(super) store: &'static str,
    pub(super) kind: &'static str,
    /// The key of the row, the order of the hold, or the buyer.
    pub(super) of: String,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) repair: &'static str,
    /// What the repair removes, if anything.
    pub(super) removes: Option<Removal>,
    /// What the log says about it.
    pub(super) evidence: Option<Evidence>,
}

pub(super) const REWRITE: &str = "write the rows of the fold";
pub(super) const CORRECT: &str = "correct under guard";
pub(super) const RELOAD: &str = "shut and load anew";

impl Difference {
    /// Between a row and the log.
    pub(super) fn of_row(voucher: VoucherId, row: &RowDifference, lost: &HashSet<RowLoss>) -> Self {
        let kind = match row.kind {
            RowDifferenceKind::Missing => "missing-row",
            RowDifferenceKind::Extra => "extra-row",
            RowDifferenceKind::Corrupted => "corrupted-row",
        };
        let loss = match row.table {
            "orders" => row.key.parse().ok().map(RowLoss::Order),
            "refunds" => Some(RowLoss::Refund(row.key.clone())),
            _ => None,
        };
        Self {
            removes: loss.filter(|loss| lost.contains(loss)).map(Removal::from),
            ..Self::of_rows(voucher, kind, row.table, &row.key, &row.what)
        }
    }

    /// Of one row, or of rows that cannot be read.
    pub(super) fn of_rows(
        voucher: VoucherId,
        kind: &'static str,
        table: &str,
        key: &str,
        what: &str,
    ) -> Self {
        Self {
            voucher,
            store: "postgresql",
            kind,
            of: format!("{table} {key}"),
            expected: "as the log's fold".to_owned(),
            found: what.to_owned(),
            repair: REWRITE,
            removes: None,
            evidence: None,
        }
    }

    /// Between Redis and the log.
    pub(super) fn of_drift(voucher: VoucherId, drift: &Drift, repair: &Repair) -> Self {
        let order = drift.order.map(|order| format!("order {order}"));
        let user = drift.user.map(|user| format!("user {user}"));
        let of: Vec<String> = user.into_iter().chain(order).collect();
        Self {
            voucher,
            store: "redis",
            kind: drift.kind.as_str(),
            of: of.join(" "),
            expected: drift.expected.clone(),
            found: drift.actual.clone(),
            repair: match repair {
                Repair::Reload => RELOAD,
                Repair::None | Repair::Again | Repair::Correct(_) => CORRECT,
            },
            removes: drift.loses.map(Removal::from),
            evidence: None,
        }
    }

    /// For a sale whose numbers in Redis cannot be read.
    pub(super) fn unreadable_sale(voucher: VoucherId, found: String) -> Self {
        Self {
            voucher,
            store: "redis",
            kind: "unreadable-sale",
            of: String::new(),
            expected: "numbers".to_owned(),
            found,
            repair: RELOAD,
            removes: None,
            evidence: None,
        }
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "voucher_id": self.voucher.get(),
            "store": self.store,
            "kind": self.kind,
            "of": self.of,
            "expected": self.expected,
            "found": self.found,
            "repair": self.repair,
            "removes": self.removes.is_some(),
            "evidence": self.evidence.as_ref().map(Evidence::json),
        })
    }
}

/// The part of the history that the log no longer has and that is therefore not compared.
pub(super) fn lost_text(log: &AcceptedLog) -> String {
    format!(
        "partition {}: the log is another one from {} on than was folded up to {} (accepted {}): rows of before are \
         taken as they are",
        log.partition,
        log.from.get(),
        log.stood_at.get(),
        moment(log.accepted_at)
    )
}

/// The same for programs.
pub(super) fn lost_json(log: &AcceptedLog) -> Value {
    json!({
        "partition": log.partition,
        "from": log.from.get(),
        "stood_at": log.stood_at.get(),
        "accepted_at": moment(log.accepted_at),
    })
}

/// The differences as a table.
pub(super) fn differences_table(differences: &[Difference]) -> String {
    let rows: Vec<_> = differences
        .iter()
        .map(|d| {
            [
                d.voucher.to_string(),
                d.store.to_owned(),
                d.kind.to_owned(),
                d.of.clone(),
                cell(&d.expected),
                cell(&d.found),
                d.repair.to_owned(),
            ]
        })
        .collect();
    let headers = [
        "VOUCHER", "STORE", "KIND", "OF", "EXPECTED", "FOUND", "REPAIR",
    ];
    table(headers, &rows)
}

/// One line for everything that a repair would remove, with what the log says about it. None if it removes nothing.
pub(super) fn losses(differences: &[Difference]) -> Option<String> {
    let line = |d: &Difference| {
        let evidence = d.evidence.as_ref()?;
        let text = format!("sale {}, {}, {}: {evidence}", d.voucher, d.store, d.of);
        Some(printable(&text))
    };
    let lines: Vec<_> = differences.iter().filter_map(line).collect();
    let head = "What would be taken away, and what the log says of it:";
    (!lines.is_empty()).then(|| format!("{head}\n{}", lines.join("\n")))
}

fn cell(text: &str) -> String {
    if text.chars().count() <= CELL_MAX_CHARS {
        return text.to_owned();
    }
    let cut: String = text.chars().take(CELL_MAX_CHARS - 1).collect();
    format!("{cut}…")
}
