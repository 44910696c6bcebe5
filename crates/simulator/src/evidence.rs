//! Why each guard is there: a history in which it is missed.
//!
//! Histories change with every change of the model. `seckill-simulator --guards --search 100000`
//! finds seeds for those that no longer show anything.

use crate::guards::Guards;
use crate::run::simulate;
use crate::world::{Mode, Violation};

/// A history that breaks a rule without a guard, and none with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The guard.
    pub guard: &'static str,
    /// The guards in front of it, if it is a second line: the history holds without those alone, and
    /// breaks without all of them.
    pub behind: &'static [&'static str],
    /// How many servers.
    pub mode: Mode,
    /// The history.
    pub seed: u64,
}

const fn alone(guard: &'static str, mode: Mode, seed: u64) -> Evidence {
    second(guard, &[], mode, seed)
}

const fn second(
    guard: &'static str,
    behind: &'static [&'static str],
    mode: Mode,
    seed: u64,
) -> Evidence {
    Evidence {
        guard,
        behind,
        mode,
        seed,
    }
}

/// One for each guard that is not redundant.
pub const EVIDENCE: &[Evidence] = &[
    alone("fence", Mode::Single, 9),
    alone("outbox", Mode::Single, 2),
    alone("position_guard", Mode::Single, 15),
    second(
        "gap_refused",
        &["settle_epoch", "min_replicas"],
        Mode::Pair,
        32_280,
    ),
    second(
        "settle_epoch",
        &["gap_refused", "min_replicas"],
        Mode::Pair,
        32_280,
    ),
    second("adopt_on_confirm", &["fence"], Mode::Single, 34),
    alone("shrink_hold_by_id", Mode::Rough, 121),
    second(
        "claim_shuts",
        &["demotion_kills_connections"],
        Mode::Pair,
        326,
    ),
    alone("release_own_only", Mode::Single, 1555),
    alone("key_tombstones", Mode::Single, 2),
    alone("claim_owned", Mode::Single, 67),
    alone("pg_compare_and_set", Mode::Single, 6),
    alone("effects_position", Mode::Single, 12),
    alone("catch_up", Mode::Single, 395),
    alone("first_load_begins_epoch", Mode::Rough, 13_213),
    alone("marked_before_load", Mode::Rough, 19_256),
    alone("drain", Mode::Single, 220),
    second(
        "drain_covers_replica_lag",
        &["claim_renewed"],
        Mode::Pair,
        26_929,
    ),
    second(
        "claim_renewed",
        &["drain_covers_replica_lag"],
        Mode::Pair,
        26_929,
    ),
    alone("boot_clock", Mode::Single, 155),
    alone("epoch_read_before_claim", Mode::Single, 8575),
    alone("reload_accepts_only_own", Mode::Single, 18_721),
    alone("load_own_epoch_only", Mode::Single, 18_862),
    alone("retire_only_served", Mode::Single, 1515),
    alone("retired_stays_out", Mode::Single, 0),
    alone("regrant_current_epoch_only", Mode::Rough, 59_704),
    alone("chunk_from_one_snapshot", Mode::Single, 44),
    alone("epoch", Mode::Single, 4391),
    alone("epoch_compare_and_set", Mode::Single, 311),
    alone("promise_deadline", Mode::Single, 155),
    alone("deadline_from_send", Mode::Single, 1060),
    alone("retry_promises_only_settled", Mode::Single, 50),
    alone("status_needs_position", Mode::Single, 653),
    alone("status_from_one_snapshot", Mode::Single, 16_744),
    alone("status_from_granting_master", Mode::Pair, 27_763),
    alone("restore_knows_sales", Mode::Single, 2279),
    alone("min_replicas", Mode::Pair, 1110),
    alone("demotion_kills_connections", Mode::Pair, 1188),
];

/// Guards that no history can miss, and why.
pub const REDUNDANT: &[(&str, &str)] = &[(
    "ack_clear_epoch",
    "an acknowledged record is in the log, and the first record of an order id decides it, \
     whatever its epoch: an entry that the ack of an earlier epoch clears is decided without it",
)];

impl Evidence {
    /// What breaks without the guard.
    ///
    /// # Errors
    /// Why this history shows nothing.
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

/// The first history of `seeds` that shows what `evidence` is to show.
#[must_use]
pub fn search(evidence: Evidence, seeds: std::ops::Range<u64>) -> Option<(Evidence, Violation)> {
    seeds.into_iter().find_map(|seed| {
        let found = Evidence { seed, ..evidence };
        Some((found, found.check().ok()?))
    })
}
