//! A report, for people: lines for the terminal and a page in Markdown.

use std::fmt::Write as _;

use crate::report::{Outcome, Report, RungReport};
use crate::rungs::{self, Rung};
use crate::scenario::{Scenario, Verdict};

mod chinese;
mod chinese_cards;
mod chinese_speeds;
mod speeds;
mod words;

pub(crate) use speeds::spread;

use self::chinese::CHINESE;
use self::words::{ENGLISH, Words};

const INTRODUCTION: &str = "\
# The oversell lab

[中文](README.zh-CN.md) · [techniques.md](techniques.md) leads from each technique's name (pessimistic, optimistic, `SETNX`, watchdog, Redlock, segments, \
pre-deduction) to its rung, and says which to use when.

Everybody who writes a flash sale climbs the same ladder: read and write, a lock, a transaction, a version, a lock in
Redis, a queue, a script. Each rung is here as a file of its own under `bench/lab/src/rungs/`, and one command runs them
all against a real PostgreSQL and Redis, makes them break where they can, and says how.

```sh
cargo run --release -p seckill-lab -- run --output lab.json     # six minutes; --quick: two
cargo run --release -p seckill-lab -- render lab.json           # this page
```

Nothing below is left to luck. Each rung has a *gate* at its critical point (between its read and its write, or between
its two stores), and each scenario puts something else there:

| Scenario | What is done |
| --- | --- |
| race | 8 buyers for 2 units; nobody passes the gate before all are there, or 200 ms have gone by |
| pause | the first buyer, in a process of its own, gets a SIGSTOP at the gate and a SIGCONT three seconds later (as a collector's pause); leases in Redis last a quarter of that; `--quick`: half a second |
| death | the same process stands still as long, and then gets a SIGKILL |
| restart | while the first buyer is at the gate, Redis is killed and comes back with what it held when the sale opened: as after a failover, or with an append-only file that is synced every second; of five servers three |
| clock step | while the first buyer is at the gate, the clock of Redis steps forward, of five servers that of three. Made by ending every lease (`PEXPIRE key 0`), which is what such a step does to them |
| double click | one user clicks twice at once, and again after that; 4 units |
| exact | 40 buyers for 40 units, 10 at a time, nothing at the gate: everybody should get one |


and to those rungs that it says something about:

| Scenario | What is done |
| --- | --- |
| two processes | one user's clicks in two processes are both at the gate before either goes on; then the others come |
| slow work | the first buyer, in a process of its own, works at the gate for three seconds, and is alive; leases last one second |
| late release | the first buyer has worked and stands before its release of the lock (between GET and DEL, where there are two commands); its lease ends, the second is at the gate with the lock; the first releases it; the third comes, and only when it is inside too or was refused the second goes on |
| two dead, three dead | the race, with two or three of five Redis servers killed |
| thousand | 1,000 buyers for 1,000 units, 10 at a time, in twenty segments chosen at random |
| pool | 1,000 requests over HTTP, 200 at a time (`ab -n 1000 -c 200`), 20 connections to PostgreSQL, for which a buyer waits 250 ms; the first buyer stands still at the gate until all for whom there was no connection have been sent away |

A verdict is the worst that happened: *oversells* (more orders than units), *duplicates* (one user, several orders),
*loses orders* (buyers
were told they have one, and have none), *deadlocks* (buyers killed by the database), *blocks* (units left, and nobody gets in), *loses units* (units left that
will never be sold), *strands* (buyers sent away while units were left; who comes later gets them), *safe*. In brackets:
orders of units. A dash: it says nothing about this rung. A verdict in italics depends on timing, and is what was seen in this run; every other one is asserted by
`bench/lab/tests/verdicts.rs`.
";

/// The first table's columns.
const EVERYWHERE: [Scenario; 7] = [
    Scenario::Race,
    Scenario::Pause,
    Scenario::Death,
    Scenario::Restart,
    Scenario::ClockStep,
    Scenario::DoubleClick,
    Scenario::Exact,
];
/// The second one's.
const SOMEWHERE: [Scenario; 7] = [
    Scenario::TwoProcesses,
    Scenario::SlowWork,
    Scenario::LateRelease,
    Scenario::TwoDead,
    Scenario::ThreeDead,
    Scenario::Thousand,
    Scenario::Pool,
];

/// Some outcomes of one rung, a line each.
#[must_use]
pub fn summary(rung: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!("{rung}\n");
    for outcome in outcomes {
        let _ = writeln!(
            text,
            "  {:<14}{:<13}sold {}/{}, undersold {}, lost {}, duplicates {}, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms {}",
            outcome.scenario.label(),
            outcome.verdict.label(),
            outcome.sold,
            outcome.stock,
            outcome.undersold,
            outcome.lost,
            outcome.duplicates,
            outcome.accepted_per_second,
            outcome.p50_ms,
            outcome.p99_ms,
            errors(outcome),
        );
    }
    text
}

/// Where a rung did something else than its card says, a line each.
#[must_use]
pub fn surprises(rung: &Rung, report: &RungReport) -> Vec<String> {
    let surprise = |outcome: &Outcome| {
        let expected = outcome.scenario.expected(&rung.card.expected)?;
        (outcome.verdict != expected).then(|| {
            format!(
                "{} in {}: {}, expected {}",
                report.name,
                outcome.scenario.label(),
                outcome.verdict.label(),
                expected.label()
            )
        })
    };
    report.outcomes.iter().filter_map(surprise).collect()
}

/// Where a rung that does not oversell in the race did so in a load, a line each.
#[must_use]
pub fn surprising_loads(rung: &Rung, report: &RungReport) -> Vec<String> {
    let loads = report.loads.iter().chain(&report.steady);
    let oversold = loads.filter(|load| load.oversold > 0);
    // Whether one that does oversells without help is luck.
    let oversold = oversold.filter(|_| rung.card.expected.race != Some(Verdict::Oversells));
    oversold
        .map(|load| format!("{} in load: {} oversold", report.name, load.oversold))
        .collect()
}

/// The whole page in English.
#[must_use]
pub fn page(report: &Report) -> String {
    page_in(&ENGLISH, report)
}

/// The whole page in Chinese.
#[must_use]
pub fn chinese_page(report: &Report) -> String {
    page_in(&CHINESE, report)
}

fn page_in(words: &Words, report: &Report) -> String {
    let cards = rungs::all();
    let rungs: Vec<(&Rung, &RungReport)> = cards
        .iter()
        .filter_map(|rung| {
            let found = report.rungs.iter().find(|r| r.name == rung.card.name)?;
            Some((rung, found))
        })
        .collect();
    let mut text = words.introduction.to_owned();
    let _ = write!(text, "\n## {}\n\n", words.what_breaks);
    text.push_str(&verdict_table(words, &EVERYWHERE, &rungs));
    let _ = write!(text, "\n{}\n\n", words.somewhere);
    let concerned = rungs
        .iter()
        .filter(|(rung, _)| SOMEWHERE.iter().any(|s| s.concerns(&rung.card.expected)));
    let concerned: Vec<(&Rung, &RungReport)> = concerned.copied().collect();
    text.push_str(&verdict_table(words, &SOMEWHERE, &concerned));
    if let Some(machine) = &report.machine {
        text.push_str(&speeds::section(words, machine, &report.load, &rungs));
    }
    let _ = write!(text, "\n## {}\n", words.rungs);
    for (rung, outcomes) in &rungs {
        text.push_str(&section(words, rung, outcomes));
    }
    text
}

fn verdict_table(words: &Words, scenarios: &[Scenario], rungs: &[(&Rung, &RungReport)]) -> String {
    let labels = scenarios.iter().map(|scenario| (words.scenario)(*scenario));
    let labels: Vec<&str> = labels.collect();
    let rules = " --- |".repeat(scenarios.len() + 1);
    let mut table = format!("| {} | {} |\n|{rules}\n", words.rung, labels.join(" | "));
    for (rung, outcomes) in rungs {
        table.push_str(&verdict_row(words, rung, outcomes, scenarios));
    }
    table
}

fn verdict_row(words: &Words, rung: &Rung, report: &RungReport, scenarios: &[Scenario]) -> String {
    let mut row = format!("| {} `{}`", rung.card.step, rung.card.name);
    for scenario in scenarios {
        let cell = report.outcome(*scenario).map_or_else(
            || "–".to_owned(),
            |outcome| {
                let label = (words.verdict)(outcome.verdict);
                let numbers = match outcome.verdict {
                    Verdict::Safe => String::new(),
                    _ => format!(" ({})", (words.of)(outcome.sold, outcome.stock)),
                };
                match (scenario.expected(&rung.card.expected), outcome.verdict) {
                    (None, _) => format!("*{label}*{numbers}"),
                    (_, Verdict::Safe) => label.to_owned(),
                    _ => format!("**{label}**{numbers}"),
                }
            },
        );
        let _ = write!(row, " | {cell}");
    }
    row.push_str(" |\n");
    row
}

fn section(words: &Words, rung: &Rung, report: &RungReport) -> String {
    let card = &rung.card;
    let (title, story) = (words.card)(card).unwrap_or((card.title, card.story));
    let mut text = format!("\n### {} `{}`: {title}\n\n{story}\n", card.step, card.name);
    if !card.diagram.is_empty() {
        let _ = write!(text, "\n```text\n{}\n```\n", card.diagram);
    }
    let _ = write!(
        text,
        "\n| {} |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        words.columns
    );
    for outcome in report.outcomes.iter().chain(report.loads.first()) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            (words.scenario)(outcome.scenario),
            (words.verdict)(outcome.verdict),
            (words.of)(outcome.sold, outcome.stock),
            outcome.oversold,
            outcome.undersold,
            outcome.lost,
            outcome.unkept,
            outcome.duplicates,
            errors(outcome)
        );
    }
    text
}

/// `7 deadlock, 1 died`, or nothing.
fn errors(outcome: &Outcome) -> String {
    let kinds: Vec<String> = outcome
        .errors
        .iter()
        .map(|(kind, count)| format!("{count} {kind}"))
        .collect();
    kinds.join(", ")
}

#[cfg(test)]
mod tests;
