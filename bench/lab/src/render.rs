//! A report, for people: lines for the terminal and a page in Markdown.

use std::fmt::Write as _;

use crate::report::{Outcome, Report, RungReport};
use crate::rungs::{self, Rung};
use crate::scenario::{Scenario, Verdict};

const INTRODUCTION: &str = "\
# The oversell lab

[techniques.md](techniques.md) leads from each technique's name (pessimistic, optimistic, `SETNX`, watchdog, Redlock, segments, \
pre-deduction) to its rung, and says which to use when.

Everybody who writes a flash sale climbs the same ladder: read and write, a lock, a transaction, a version, a lock in
Redis, a queue, a script. Each rung is here as a file of its own under `bench/lab/src/rungs/`, and one command runs them
all against a real PostgreSQL and Redis, makes them break where they can, and says how.

```sh
cargo run --release -p seckill-lab -- run --output lab.json     # under ten minutes; --quick: under two
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
| load | nothing at the gate; for the speed |

A verdict is the worst that happened: *oversells* (more orders than units), *duplicates* (one user, several orders),
*loses orders* (buyers
were told they have one, and have none), *deadlocks* (buyers killed by the database), *blocks* (units left, and nobody gets in), *loses units* (units left that
will never be sold), *strands* (buyers sent away while units were left; who comes later gets them), *safe*. In brackets:
orders of units. A dash: nothing of it is in Redis, or no lease is. A verdict in italics depends on timing, and is what was seen in this run; every other one is asserted by
`bench/lab/tests/verdicts.rs`.
";

/// One rung's outcomes, a line each.
#[must_use]
pub fn summary(rung: &RungReport) -> String {
    let mut text = format!("{}\n", rung.name);
    for outcome in &rung.outcomes {
        let _ = writeln!(
            text,
            "  {:<13}{:<13}sold {}/{}, undersold {}, lost {}, duplicates {}, {:.0}/s, p50 {:.1} ms, p99 {:.1} ms {}",
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
    let mut surprises: Vec<String> = report.outcomes.iter().filter_map(surprise).collect();
    // What a barrier forces in the race, a crowd does by itself.
    let oversells = rung.card.expected.race == Some(Verdict::Oversells);
    if let Some(load) = report.outcome(Scenario::Load)
        && (load.oversold > 0) != oversells
    {
        surprises.push(format!(
            "{} in load: {} oversold",
            report.name, load.oversold
        ));
    }
    surprises
}

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let cards = rungs::all();
    let rungs: Vec<(&Rung, &RungReport)> = cards
        .iter()
        .filter_map(|rung| {
            let found = report.rungs.iter().find(|r| r.name == rung.card.name)?;
            Some((rung, found))
        })
        .collect();
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## What breaks what\n\n");
    text.push_str("| Rung | race | pause | death | restart | clock step | double click | exact |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (rung, outcomes) in &rungs {
        text.push_str(&verdict_row(rung, outcomes));
    }
    text.push_str(&speed(report, &rungs));
    text.push_str("\n## The rungs\n");
    for (rung, outcomes) in &rungs {
        text.push_str(&section(rung, outcomes));
    }
    text
}

fn verdict_row(rung: &Rung, report: &RungReport) -> String {
    let mut row = format!("| {} `{}`", rung.card.step, rung.card.name);
    for scenario in Scenario::DUELS {
        let cell = report.outcome(scenario).map_or_else(
            || "–".to_owned(),
            |outcome| {
                let label = outcome.verdict.label();
                let numbers = match outcome.verdict {
                    Verdict::Safe => String::new(),
                    _ => format!(" ({} of {})", outcome.sold, outcome.stock),
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

fn speed(report: &Report, rungs: &[(&Rung, &RungReport)]) -> String {
    let (machine, load) = (&report.machine, &report.load);
    let build = if machine.optimised {
        "release build"
    } else {
        "debug build"
    };
    let mut text = format!(
        "\n## How fast\n\n\
         {} units, {} buyers, {} at a time; no new buyer after {} s. Round trips are those of the whole load divided by \
         its orders, so refused buyers and attempts that came to nothing are in them; for `pipeline` they are the writing \
         transactions of PostgreSQL and the socket reads of Redis, of all services together. Measured on {} ({} threads), Linux {}, \
         PostgreSQL {} without fsync, Redis {} without persistence, {build}, stores and buyers on the same machine, \
         whose load average just before was {}: \
         compare the rungs with each other, not with another machine.\n\n\
         ![Accepted orders a second, by rung](throughput.svg)\n\n\
         | Rung | sold | oversold | undersold | accepted/s | p50 ms | p99 ms | PostgreSQL trips/order | Redis trips/order | errors |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
        load.stock,
        load.buyers,
        load.concurrency,
        load.stop_after_s,
        machine.cpu,
        machine.cores,
        machine.kernel,
        machine.postgresql,
        machine.redis,
        machine.load_average,
    );
    for (rung, outcomes) in rungs {
        if let Some(outcome) = outcomes.outcome(Scenario::Load) {
            let _ = writeln!(
                text,
                "| {} `{}` | {} | {} | {} | {:.0} | {:.1} | {:.1} | {:.2} | {:.2} | {} |",
                rung.card.step,
                rung.card.name,
                outcome.sold,
                outcome.oversold,
                outcome.undersold,
                outcome.accepted_per_second,
                outcome.p50_ms,
                outcome.p99_ms,
                outcome.database_trips_per_order,
                outcome.redis_trips_per_order,
                errors(outcome),
            );
        }
    }
    text
}

fn section(rung: &Rung, report: &RungReport) -> String {
    let card = &rung.card;
    let mut text = format!(
        "\n### {} `{}`: {}\n\n{}\n",
        card.step, card.name, card.title, card.story
    );
    if !card.diagram.is_empty() {
        let _ = write!(text, "\n```text\n{}\n```\n", card.diagram);
    }
    text.push_str(
        "\n| Scenario | verdict | sold | oversold | undersold | never sold | promised, no order | duplicates | errors |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for outcome in &report.outcomes {
        let _ = writeln!(
            text,
            "| {} | {} | {} of {} | {} | {} | {} | {} | {} | {} |",
            outcome.scenario.label(),
            outcome.verdict.label(),
            outcome.sold,
            outcome.stock,
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
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::chart;
    use crate::machine::Machine;
    use crate::scenario::Load;

    fn outcome(scenario: Scenario, verdict: Verdict, sold: i64) -> Outcome {
        Outcome {
            scenario,
            verdict,
            stock: 2,
            clicks: 8,
            sold,
            oversold: (sold - 2).max(0),
            unkept: 0,
            undersold: 0,
            lost: 0,
            duplicates: 0,
            errors: BTreeMap::from([("died".to_owned(), 1)]),
            accepted_per_second: 123.4,
            p50_ms: 1.0,
            p99_ms: 2.0,
            database_trips_per_order: 3.0,
            redis_trips_per_order: 0.0,
        }
    }

    fn report(race: Verdict) -> Report {
        let outcomes = vec![
            outcome(Scenario::Race, race, 8),
            outcome(Scenario::Death, Verdict::Safe, 2),
            outcome(Scenario::Load, Verdict::Safe, 3),
        ];
        let machine = Machine {
            cpu: "a processor".to_owned(),
            cores: 2,
            kernel: "6".to_owned(),
            load_average: "0.1".to_owned(),
            postgresql: "15".to_owned(),
            redis: "7".to_owned(),
            optimised: true,
        };
        let load = Load {
            stock: 2,
            buyers: 8,
            concurrency: 8,
            stop_after_s: 1,
            pause_ms: 500,
        };
        let name = "naive".to_owned();
        let rungs = vec![RungReport { name, outcomes }];
        Report {
            machine,
            load,
            rungs,
        }
    }

    #[test]
    fn the_page_shows_what_was_run_and_what_depends_on_timing() {
        let page = page(&report(Verdict::Oversells));
        let row = "| 1 `naive` | **oversells** (8 of 2) | – | *safe* | – | – | – | – |";
        assert!(page.contains(row), "{page}");
        assert!(page.contains("| 1 `naive` | 3 | 1 | 0 | 123 |"), "{page}");
        assert!(
            page.contains("| race | oversells | 8 of 2 | 6 | 0 | 0 | 0 | 0 | 1 died |"),
            "{page}"
        );
        assert!(!page.contains("`mutex`"), "{page}");
    }

    #[test]
    fn only_what_the_card_does_not_say_is_a_surprise() {
        let naive = rungs::all()[0];
        let surprises_of = |race| surprises(&naive, &report(race).rungs[0]);
        assert_eq!(surprises_of(Verdict::Oversells), [""; 0]);
        let surprises = surprises_of(Verdict::Safe);
        assert_eq!(surprises, ["naive in race: safe, expected oversells"]);
    }

    #[test]
    fn the_chart_has_a_bar_of_the_right_colour() {
        let colours = |race| {
            let svg = chart::throughput(&report(race));
            assert!(
                svg.contains(">naive</text>") && svg.contains(">123</text>"),
                "{svg}"
            );
            svg.matches("#c0562f").count()
        };
        // One is the legend's.
        assert_eq!(colours(Verdict::Safe), 1);
        assert_eq!(colours(Verdict::Oversells), 2);
    }
}
