//! The reason for each guard: a history that breaks a rule without it.
//!
//! Histories change with every change of the model. `seckill-simulator --guards --search 100000` finds new seeds for
//! histories that no longer break their rule.

use crate::guards::Guards;
use crate::run::simulate;
use crate::world::{Mode, Violation};

/// What a guard prevents: the beginnings of the names of rules. Without the guard one of these rules is broken. If
/// another rule breaks, that does not show that the guard is needed.
type Rules = &'static [&'static str];

/// Redis gives more units than there are.
const OVERSOLD: Rules = &["stock in Redis is negative", "Redis would oversell"];
/// Units belong to no order and are not for sale either.
const LEAKED: Rules = &["units leaked in Redis"];
/// A buyer was promised an order that is rejected later, because its epoch has ended.
const REJECTED: Rules = &["a promised order was rejected: stale-epoch"];
/// An order is promised that the load does not know.
const UNKEPT: Rules = &["a promised order was rejected"];
/// A buyer who has an order is promised another.
const REFUSED: Rules = &["a promised order was rejected: already-ordered"];
const LOST: Rules = &["a promised order is lost"];
const UNKNOWN: Rules = &["an order that was called unknown stands"];
const SOLD_OUT: Rules = &["a buyer who was told of an order is told that it is sold out"];
const TWO_ORDERS: Rules = &["one key made two orders"];
const NOT_THE_FOLD: Rules = &["PostgreSQL is not the fold of the log"];
const UNTOLD: Rules = &["an outcome was never published"];
const RETIRED: Rules = &["a retired sale is served"];
const UNSOLD: Rules = &["units were not sold although there was demand"];
const NO_REST: Rules = &["it does not come to rest"];

/// A history that breaks the rule that a guard protects if the guard is off, and breaks no rule if it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    pub guard: &'static str,
    /// The beginnings of the names of the rules of which one is broken without the guard.
    pub breaks: &'static [&'static str],
    /// If it is a second line of defence, the guards of the first line. Without only these, the history breaks no rule;
    /// without these and the guard, it does.
    pub behind: &'static [&'static str],
    /// The number and kind of servers.
    pub mode: Mode,
    pub seed: u64,
}

const fn alone(guard: &'static str, breaks: Rules, mode: Mode, seed: u64) -> Evidence {
    second(guard, breaks, &[], mode, seed)
}

const fn second(
    guard: &'static str,
    breaks: Rules,
    behind: &'static [&'static str],
    mode: Mode,
    seed: u64,
) -> Evidence {
    Evidence {
        guard,
        breaks,
        behind,
        mode,
        seed,
    }
}

/// One for each guard that is not redundant.
pub const EVIDENCE: &[Evidence] = &[
    alone("fence", OVERSOLD, Mode::Single, 9),
    alone("failovers_counted", REJECTED, Mode::Sentinel, 8004),
    alone("parts_agree", OVERSOLD, Mode::Torn, 2),
    alone("outbox", LEAKED, Mode::Single, 2),
    alone("repeat_superseded", LEAKED, Mode::Late, 2022),
    alone("position_guard", OVERSOLD, Mode::Single, 15),
    second(
        "gap_refused",
        OVERSOLD,
        &["settle_epoch", "min_replicas"],
        Mode::Pair,
        32_280,
    ),
    second(
        "settle_epoch",
        OVERSOLD,
        &["gap_refused", "min_replicas"],
        Mode::Pair,
        32_280,
    ),
    second("adopt_on_confirm", REFUSED, &["fence"], Mode::Single, 34),
    alone("shrink_hold_by_id", LEAKED, Mode::Rough, 158),
    second(
        "claim_shuts",
        UNKEPT,
        &["demotion_kills_connections"],
        Mode::Pair,
        4960,
    ),
    alone("release_own_only", OVERSOLD, Mode::Single, 1555),
    alone("key_tombstones", TWO_ORDERS, Mode::Single, 2),
    alone("earlier_keys", TWO_ORDERS, Mode::Single, 20),
    alone("decided_shrinks_loaded", LEAKED, Mode::Rough, 4133),
    alone("claim_owned", REJECTED, Mode::Single, 67),
    alone("pg_compare_and_set", NOT_THE_FOLD, Mode::Single, 6),
    alone("effects_position", UNTOLD, Mode::Single, 12),
    alone("catch_up", NO_REST, Mode::Single, 395),
    alone("first_load_begins_epoch", REJECTED, Mode::Rough, 197_085),
    second(
        "marked_before_load",
        OVERSOLD,
        &["first_load_begins_epoch"],
        Mode::Single,
        2317,
    ),
    alone("drain", REJECTED, Mode::Single, 220),
    second(
        "drain_covers_replica_lag",
        REJECTED,
        &["claim_renewed"],
        Mode::Pair,
        26_929,
    ),
    second(
        "claim_renewed",
        REJECTED,
        &["drain_covers_replica_lag"],
        Mode::Pair,
        26_929,
    ),
    alone("boot_clock", REJECTED, Mode::Single, 155),
    alone("epoch_read_before_claim", REJECTED, Mode::Single, 8575),
    alone("reload_accepts_only_own", REJECTED, Mode::Single, 18_721),
    alone("load_own_epoch_only", REJECTED, Mode::Single, 18_862),
    alone("retire_only_served", RETIRED, Mode::Single, 1881),
    second(
        "retired_stays_out",
        RETIRED,
        &["over_is_discarded"],
        Mode::Single,
        0,
    ),
    alone("regrant_current_epoch_only", UNKNOWN, Mode::Rough, 155_924),
    alone("chunk_from_one_snapshot", LEAKED, Mode::Single, 44),
    alone("epoch", OVERSOLD, Mode::Single, 4391),
    alone("epoch_compare_and_set", REJECTED, Mode::Single, 311),
    alone("promise_deadline", REJECTED, Mode::Single, 155),
    alone("deadline_from_send", REJECTED, Mode::Single, 1060),
    alone("retry_promises_only_settled", LOST, Mode::Single, 50),
    alone("sold_out_lease", SOLD_OUT, Mode::Crowd, 67),
    alone("lease_from_send", SOLD_OUT, Mode::Crowd, 88),
    alone("lease_for_known_holders", SOLD_OUT, Mode::Crowd, 1),
    alone("holders_of_same_load", SOLD_OUT, Mode::Crowd, 3192),
    alone("status_needs_position", UNKNOWN, Mode::Single, 653),
    alone("status_from_one_snapshot", UNKNOWN, Mode::Single, 16_744),
    alone("status_from_granting_master", UNKNOWN, Mode::Pair, 27_763),
    alone("status_from_one_epoch", UNKNOWN, Mode::Pair, 100_024_885),
    alone("restore_knows_sales", UNKNOWN, Mode::Single, 2279),
    alone("min_replicas", REJECTED, Mode::Pair, 1110),
    alone("demotion_kills_connections", UNSOLD, Mode::Pair, 1188),
];

/// Guards without which no history breaks a rule, and the reason.
pub const REDUNDANT: &[(&str, &str)] = &[
    (
        "ack_clear_epoch",
        "an acknowledged record is in the log, and the first record of an order id decides it, \
         whatever its epoch: an entry that the ack of an earlier epoch clears is decided without it",
    ),
    (
        "over_is_discarded",
        "a sale that is over and is loaded all the same is retired by the next look: it only spares \
         Redis the load",
    ),
];

impl Evidence {
    /// The rule that breaks without the guard, which is one of those that the guard protects.
    ///
    /// # Errors
    /// Why this history does not show that the guard is needed.
    pub fn check(&self) -> Result<Violation, String> {
        let run = |without: &[&str]| {
            let guards = Guards::without(without).ok_or("no such guard")?;
            Ok::<_, String>(simulate(self.seed, self.mode, guards))
        };
        let mut off = vec![self.guard];
        off.extend(self.behind);
        let Err(violation) = run(&off)? else {
            return Err("nothing is broken without it".to_owned());
        };
        if !self.breaks.iter().any(|rule| violation.0.starts_with(rule)) {
            let breaks = self.breaks.join(" or ");
            return Err(format!(
                "{violation} without it, which does not prove it: {breaks} would"
            ));
        }
        if !self.behind.is_empty()
            && let Err(violation) = run(self.behind)?
        {
            let behind = self.behind.join(", ");
            return Err(format!("{violation} already without {behind} alone"));
        }
        match run(&[])? {
            Ok(_) => Ok(violation),
            Err(violation) => Err(format!("{violation} with every guard")),
        }
    }
}

/// The first history of `seeds` that shows the need for the guard of `evidence`.
#[must_use]
pub fn search(evidence: Evidence, seeds: std::ops::Range<u64>) -> Option<(Evidence, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let found = Evidence { seed, ..evidence };
        Some((found, found.check().ok()?))
    })
}
