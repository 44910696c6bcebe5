//! Thousands of histories break no rule, and for each guard there is a history that breaks one without it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use seckill_simulator::{EVIDENCE, Guards, Mode, REDUNDANT, simulate};

const SEEDS: u64 = 10_000;

fn no_rule_is_broken(mode: Mode, seeds: u64) {
    let (mut promised, mut loads) = (0, 0);
    for seed in 0..seeds {
        let report = simulate(seed, mode, Guards::default())
            .unwrap_or_else(|broken| panic!("seed {seed}, {mode:?}: {broken}"));
        promised += report.promised;
        loads += report.loads;
    }
    // This fails if the histories are empty, which would break no rule either.
    let seeds = usize::try_from(seeds).unwrap();
    assert!(promised > 2 * seeds, "{promised} promises");
    assert!(loads > u64::try_from(seeds).unwrap(), "{loads} loads");
}

#[test]
fn no_rule_is_broken_with_one_server() {
    no_rule_is_broken(Mode::Single, SEEDS);
}

#[test]
fn no_rule_is_broken_where_faults_are_frequent() {
    no_rule_is_broken(Mode::Rough, SEEDS / 4);
}

#[test]
fn no_rule_is_broken_where_requests_are_repeated_late() {
    no_rule_is_broken(Mode::Late, SEEDS / 4);
}

#[test]
fn no_rule_is_broken_where_parts_of_a_sale_are_lost() {
    no_rule_is_broken(Mode::Torn, SEEDS / 2);
}

#[test]
fn no_rule_is_broken_where_a_master_is_named_again() {
    no_rule_is_broken(Mode::Sentinel, SEEDS / 2);
}

#[test]
fn no_rule_is_broken_with_two_servers() {
    no_rule_is_broken(Mode::Pair, SEEDS);
}

#[test]
fn no_rule_is_broken_where_a_crowd_is_refused_without_asking_redis() {
    no_rule_is_broken(Mode::Crowd, SEEDS / 2);
    let refused = |seed| {
        let report = simulate(seed, Mode::Crowd, Guards::default());
        report.map_or(0, |report| report.refused_from_memory)
    };
    assert!((0..100).map(refused).sum::<u64>() > 100);
}

#[test]
fn a_seed_is_one_history() {
    for seed in 0..20 {
        let run = || simulate(seed, Mode::Pair, Guards::default()).unwrap();
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn every_guard_is_missed_or_redundant() {
    for name in Guards::names() {
        let missed = EVIDENCE.iter().any(|evidence| evidence.guard == name);
        let redundant = REDUNDANT.iter().any(|(guard, _)| *guard == name);
        assert!(missed != redundant, "{name}");
    }
    for evidence in EVIDENCE {
        let shown = evidence.check();
        let more = "`seckill-simulator --guards --search 100000` looks for another";
        assert!(shown.is_ok(), "{evidence:?}: {shown:?}; {more}");
    }
}

/// A guard is redundant if no rule is broken without it.
#[test]
fn no_rule_is_broken_without_a_redundant_guard() {
    for (guard, _) in REDUNDANT {
        let without = Guards::without(&[guard]).unwrap();
        for (seed, mode) in (0..1_000).flat_map(|n| [(n, Mode::Single), (n, Mode::Pair)]) {
            simulate(seed, mode, without)
                .unwrap_or_else(|broken| panic!("{guard}, seed {seed}, {mode:?}: {broken}"));
        }
    }
}
