//! What the page says, in one language.

use seckill_bench::machine::Machine;

use crate::plan::Load;
use crate::scenario::{Scenario, Verdict};
use crate::strategy::{Accepted, Card};

/// The page's texts.
pub(super) struct Words {
    pub(super) introduction: &'static str,
    pub(super) what_breaks: &'static str,
    pub(super) somewhere: &'static str,
    /// A table's first column.
    pub(super) rung: &'static str,
    pub(super) rungs: &'static str,
    /// Of the table of one rung.
    pub(super) columns: &'static str,
    pub(super) scenario: fn(Scenario) -> &'static str,
    pub(super) verdict: fn(Verdict) -> &'static str,
    /// Title and story; none where the translation lacks a rung.
    pub(super) card: fn(&Card) -> Option<(&'static str, &'static str)>,
    pub(super) accepted: fn(Accepted) -> &'static str,
    pub(super) leaves_out: &'static str,
    /// So many of so many.
    pub(super) of: fn(i64, i64) -> String,
    pub(super) speeds: SpeedWords,
}

/// Those of the speeds.
pub(super) struct SpeedWords {
    pub(super) introduction: fn(&Machine, &Load) -> String,
    /// Of the three kinds, in their order.
    pub(super) kinds: [&'static str; 3],
    pub(super) columns: &'static str,
    pub(super) side_by_side: fn(&Load) -> String,
}

pub(super) const ENGLISH: Words = Words {
    introduction: super::INTRODUCTION,
    what_breaks: "What breaks what",
    somewhere: "What says something about some of them only:",
    rung: "Rung",
    rungs: "The rungs",
    columns: "Scenario | verdict | sold | oversold | undersold | never sold | promised, no order | duplicates | errors",
    scenario: Scenario::label,
    verdict: Verdict::label,
    card: |card| Some((card.title, card.story)),
    accepted: Accepted::label,
    leaves_out: "HTTP, log",
    of: |sold, stock| format!("{sold} of {stock}"),
    speeds: super::speeds::ENGLISH,
};
