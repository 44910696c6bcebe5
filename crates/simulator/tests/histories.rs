//! The rules hold in thousands of histories, and each guard is needed in one of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use seckill_simulator::{Guards, Mode, simulate};

const SEEDS: u64 = 10_000;

fn no_rule_is_broken(mode: Mode) {
    let (mut promised, mut loads) = (0, 0);
    for seed in 0..SEEDS {
        let report = simulate(seed, mode, Guards::default())
            .unwrap_or_else(|broken| panic!("seed {seed}, {mode:?}: {broken}"));
        promised += report.promised;
        loads += report.loads;
    }
    // Histories in which nothing happens break no rule either.
    assert!(promised > 20_000, "{promised} promises");
    assert!(loads > 10_000, "{loads} loads");
}

#[test]
fn no_rule_is_broken_with_one_server() {
    no_rule_is_broken(Mode::Single);
}

#[test]
fn no_rule_is_broken_with_two_servers() {
    no_rule_is_broken(Mode::Pair);
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let run = || simulate(seed, Mode::Pair, Guards::default()).unwrap();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

/// For each guard a history in which it is missed, and with how many servers.
const MISSED: &[(&str, Mode, u64)] = &[
    ("fence", Mode::Single, 63),
    ("outbox", Mode::Single, 4),
    ("position_guard", Mode::Single, 328),
    ("release_own_only", Mode::Single, 106),
    ("key_tombstones", Mode::Single, 2),
    ("claim_owned", Mode::Single, 91),
    ("pg_compare_and_set", Mode::Single, 0),
    ("effects_position", Mode::Single, 1),
    ("catch_up", Mode::Single, 529),
    ("first_load_begins_epoch", Mode::Single, 2779),
    ("marked_before_load", Mode::Single, 5244),
    ("drain", Mode::Single, 51),
    ("boot_clock", Mode::Single, 4147),
    ("epoch_read_before_claim", Mode::Single, 232),
    ("load_own_epoch_only", Mode::Single, 329),
    ("retire_only_served", Mode::Single, 139),
    ("retired_stays_out", Mode::Single, 1474),
    ("regrant_current_epoch_only", Mode::Pair, 18542),
    ("chunk_from_one_snapshot", Mode::Single, 884),
    ("epoch", Mode::Single, 657),
    ("epoch_compare_and_set", Mode::Single, 968),
    ("promise_deadline", Mode::Single, 214),
    ("deadline_from_send", Mode::Single, 657),
    ("retry_promises_only_settled", Mode::Single, 128),
    ("status_needs_position", Mode::Single, 137),
    ("restore_knows_sales", Mode::Single, 1378),
    ("min_replicas", Mode::Pair, 57),
    ("demotion_kills_connections", Mode::Pair, 1188),
];

#[test]
fn every_guard_is_needed() {
    for name in Guards::NAMES {
        assert!(
            MISSED.iter().any(|(of, ..)| of == name),
            "no seed for {name}"
        );
    }
    for (name, mode, seed) in MISSED {
        let without = Guards::without(name).unwrap();
        let broken = simulate(*seed, *mode, without);
        assert!(
            broken.is_err(),
            "{name} is not missed in seed {seed}, {mode:?}"
        );
        simulate(*seed, *mode, Guards::default())
            .unwrap_or_else(|broken| panic!("seed {seed}, {mode:?}: {broken}"));
    }
}
