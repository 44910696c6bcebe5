//! Which of the long cases a run of continuous integration has time for.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};

/// How the names of those begin that every run makes: together less than a quarter of an hour.
const EACH_TIME: [&str; 7] = [
    "process_deaths::chaos::all_services_are_killed",
    "process_deaths::chaos::everything_is_killed",
    "redis::cluster::",
    "outages::full_disks::",
    "kafka::kafka_cluster::",
    "redis::sentinel::",
    "outages::wrong_clocks::",
];

/// The first takes as long as all others together, and says something about a release build only; the other builds
/// the previous release.
const BY_HAND: [&str; 2] = ["postgres::rebuild_large::", "deployment::upgrades::"];

const DAY_S: u64 = 24 * 60 * 60;

/// The cases of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    pub(crate) each_time: Vec<&'a str>,
    /// Another one each day, of all that are left.
    pub(crate) in_turn: &'a str,
}

/// Days since 1970.
pub(crate) fn today() -> Result<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(now.context("the clock stands before 1970")?.as_secs() / DAY_S)
}

/// Chooses from what the tests' own `--ignored --list` says.
///
/// # Errors
/// When a case that every run makes is not there any more, or none is left.
pub(crate) fn plan(list: &str, day: u64) -> Result<Plan<'_>> {
    let mut cases: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    cases.sort_unstable();
    let begins = |case: &str, beginnings: &[&str]| beginnings.iter().any(|b| case.starts_with(b));
    for beginning in EACH_TIME.iter().chain(&BY_HAND) {
        let there = cases.iter().any(|case| case.starts_with(beginning));
        ensure!(
            there,
            "no long case begins with {beginning}: mend the list in xtask/src/daily.rs"
        );
    }
    let in_turn = cases
        .iter()
        .filter(|case| !begins(case, &EACH_TIME) && !begins(case, &BY_HAND));
    let in_turn: Vec<&str> = in_turn.copied().collect();
    ensure!(
        !in_turn.is_empty(),
        "no long case is left to be run in its turn"
    );
    let turn = usize::try_from(day % in_turn.len() as u64)?;
    cases.retain(|case| begins(case, &EACH_TIME));
    Ok(Plan {
        each_time: cases,
        in_turn: in_turn[turn],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "redis::sentinel::a: test\nredis::cluster::a: test\nkafka::kafka_cluster::a: test\n\
                        process_deaths::chaos::all_services_are_killed_at: test\n\
                        process_deaths::chaos::everything_is_killed_x: test\n\
                        process_deaths::chaos::two_hundred: test\n\
                        outages::full_disks::b: test\noutages::full_disks::a: test\n\
                        outages::wrong_clocks::a: test\npostgres::rebuild_large::a: test\n\
                        redis::reload_size::a: test\ndeployment::upgrades::a: test\n\n12 tests, 0 benchmarks\n";

    #[test]
    fn every_case_has_its_turn_but_those_of_each_time() {
        let turns: Vec<&str> = (20_000..20_003)
            .map(|day| plan(LIST, day).unwrap().in_turn)
            .collect();
        assert_eq!(
            turns,
            [
                "process_deaths::chaos::two_hundred",
                "redis::reload_size::a",
                "process_deaths::chaos::two_hundred"
            ]
        );
        let each_time = plan(LIST, 1).unwrap().each_time;
        assert_eq!(each_time.len(), 8, "{each_time:?}");
        assert!(
            each_time.contains(&"outages::full_disks::b")
                && each_time.contains(&"redis::sentinel::a")
        );
    }

    #[test]
    fn a_case_that_is_gone_is_missed() {
        let without = LIST.replace("redis::sentinel::a: test\n", "");
        assert!(
            plan(&without, 1)
                .unwrap_err()
                .to_string()
                .contains("redis::sentinel::")
        );
    }
}
