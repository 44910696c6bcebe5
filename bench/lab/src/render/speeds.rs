//! How fast, on the page.

use std::fmt::Write as _;

use seckill_bench::machine::Machine;

use super::errors;
use super::words::{SpeedWords, Words};
use crate::plan::{Load, STEADY_PER_SECOND};
use crate::report::{Outcome, RungReport};
use crate::rungs::{Kind, Rung};
use crate::strategy::Accepted;

type Rungs<'a> = [(&'a Rung, &'a RungReport)];

pub(super) const ENGLISH: SpeedWords = SpeedWords {
    introduction,
    kinds: [
        "The stock in PostgreSQL",
        "The stock in PostgreSQL, behind a lock in Redis",
        "The stock in Redis",
    ],
    columns: "Rung | an accepted order is | accepted/s | p50 ms | p99 ms | sold | oversold | undersold | PostgreSQL trips/order | Redis trips/order | leaves out | errors",
    side_by_side: |load| {
        format!(
            "\n### Answered at once, or with the order written\n\n\
             The same load for all: {STEADY_PER_SECOND} buyers a second for {} s, by the clock and not by each other's answers, each rung \
             behind HTTP and called by one client. In brackets the least and the most of the rounds.\n\n\
             | Rung | when the buyer is told, the order is | sold | p50 ms | p99 ms | errors |\n",
            load.steady_s,
        )
    },
};

/// The machine, a table for each kind, and the answers at the same load.
pub(super) fn section(words: &Words, machine: &Machine, load: &Load, rungs: &Rungs<'_>) -> String {
    let mut text = (words.speeds.introduction)(machine, load);
    for (kind, title) in Kind::ALL.into_iter().zip(words.speeds.kinds) {
        let _ = write!(
            text,
            "\n### {title}\n\n| {} |\n\
             | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n",
            words.speeds.columns
        );
        for (rung, report) in rungs.iter().filter(|(rung, _)| rung.kind() == kind) {
            text.push_str(&row(words, rung, report).unwrap_or_default());
        }
    }
    text.push_str(&side_by_side(words, load, rungs));
    text
}

fn introduction(machine: &Machine, load: &Load) -> String {
    format!(
        "\n## How fast\n\n\
         {} units, {} buyers, {} at a time; no new buyer after {} s. Rungs of one kind take turns, and in every other round \
         in the opposite order; a speed is the median of the rounds, with the slowest and the fastest in brackets, and the rest of \
         the row is that round's. Nobody asserts a speed. What a figure leaves out is a column: the rungs are called in the process \
         and write no log, `pipeline` is called over HTTP and answers when the log has the order. Round trips are those of the whole load divided by \
         its orders, so refused buyers and attempts that came to nothing are in them; for `pipeline` they are the writing \
         transactions of PostgreSQL and the socket reads of Redis, of all services together.\n\n\
         Measured on {machine}, stores and buyers on the same machine, \
         whose load average just before was {}: \
         compare the rungs with each other, not with another machine.\n\n\
         ![Accepted orders a second, by rung](throughput.svg)\n",
        load.stock, load.buyers, load.concurrency, load.stop_after_s, machine.load_average,
    )
}

fn row(words: &Words, rung: &Rung, report: &RungReport) -> Option<String> {
    let speed = |outcome: &Outcome| outcome.accepted_per_second;
    let (least, outcome, most) = spread(&report.loads, speed)?;
    let leaves_out = match rung.accepted {
        Accepted::Row | Accepted::Entry => words.leaves_out,
        Accepted::Record => "–",
    };
    Some(format!(
        "| {} `{}` | {} | {:.0} ({:.0}–{:.0}) | {:.1} | {:.1} | {} | {} | {} | {:.2} | {:.2} | {leaves_out} | {} |\n",
        rung.card.step,
        rung.card.name,
        (words.accepted)(rung.accepted),
        outcome.accepted_per_second,
        least.accepted_per_second,
        most.accepted_per_second,
        outcome.p50_ms,
        outcome.p99_ms,
        outcome.sold,
        outcome.oversold,
        outcome.undersold,
        outcome.database_trips_per_order,
        outcome.redis_trips_per_order,
        errors(outcome),
    ))
}

fn side_by_side(words: &Words, load: &Load, rungs: &Rungs<'_>) -> String {
    let mut text = (words.speeds.side_by_side)(load);
    text.push_str("| --- | --- | ---: | ---: | ---: | --- |\n");
    for (rung, report) in rungs {
        let half = spread(&report.steady, |outcome| outcome.p50_ms);
        let most = spread(&report.steady, |outcome| outcome.p99_ms);
        if let (Some(p50), Some(p99)) = (half, most) {
            let _ = writeln!(
                text,
                "| {} `{}` | {} | {} | {:.1} ({:.1}–{:.1}) | {:.1} ({:.1}–{:.1}) | {} |",
                rung.card.step,
                rung.card.name,
                (words.accepted)(rung.accepted),
                (words.of)(p50.1.sold, p50.1.stock),
                p50.1.p50_ms,
                p50.0.p50_ms,
                p50.2.p50_ms,
                p99.1.p99_ms,
                p99.0.p99_ms,
                p99.2.p99_ms,
                errors(p50.1),
            );
        }
    }
    text
}

/// The rounds with the least, the median and the most of something.
pub(crate) fn spread(
    rounds: &[Outcome],
    of: impl Fn(&Outcome) -> f64,
) -> Option<(&Outcome, &Outcome, &Outcome)> {
    let mut sorted: Vec<&Outcome> = rounds.iter().collect();
    sorted.sort_by(|a, b| of(a).total_cmp(&of(b)));
    let median = sorted.get(sorted.len() / 2)?;
    Some((sorted.first()?, median, sorted.last()?))
}
