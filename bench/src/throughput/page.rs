//! What runs have measured, for people: a part of `docs/performance.md` and its pictures.

mod chart;
mod goals;

use std::fmt::Write as _;

use self::chart::Line;
use super::measured::Rate;
use super::report::{Median, PacedMedian, Ratio, Report};
use crate::table::count;

const COLOURS: [&str; 2] = ["#2e7d5b", "#c0562f"];

/// Markdown and SVG.
#[derive(Debug)]
pub struct Page {
    /// Names the pictures `performance/throughput.svg` and `performance/latency.svg`.
    pub text: String,
    /// Accepted orders against offered ones.
    pub throughput: String,
    /// Latency against offered orders.
    pub latency: String,
}

/// Of runs with the same options, each with the name of its JSON.
#[must_use]
pub fn page(runs: &[(String, Report)]) -> Page {
    let mut text = introduction(runs);
    for part in [
        goals::table,
        accepted,
        processor_time,
        refusals,
        loads,
        ceilings,
    ] {
        text.push_str(&part(runs));
    }
    Page {
        text,
        throughput: throughput(runs),
        latency: latency(runs),
    }
}

type Runs = [(String, Report)];

fn introduction(runs: &Runs) -> String {
    let mut text = String::new();
    for (number, (name, run)) in runs.iter().enumerate() {
        let _ = writeln!(
            text,
            "- Run {}, [{name}](performance/{name}), {}: medians of {} rounds of {} s, {} connections; {}. {}",
            number + 1,
            run.measured_on,
            run.rounds.len(),
            run.seconds,
            run.connections,
            run.machine,
            run.behind()
                .unwrap_or_else(|| "The fold kept up in all runs.".to_owned()),
        );
    }
    text
}

/// A Markdown table: the `first` columns, and one for each run.
fn table(runs: &Runs, title: &str, first: &[&str], rows: &[String]) -> String {
    let named = (1..=runs.len()).map(|number| format!("run {number}"));
    let names = first.iter().map(|name| (*name).to_owned()).chain(named);
    let header = line(names);
    let columns = first.len() + runs.len();
    let rule = "| --- ".repeat(columns);
    format!("\n### {title}\n\n{header}{rule}|\n{}", rows.concat())
}

/// A row of such a table: `of` gives each run's value.
fn row(runs: &Runs, names: &[&str], of: impl Fn(&Report) -> Option<String>) -> String {
    let names = names.iter().map(|name| (*name).to_owned());
    let values = runs.iter().map(|(_, run)| of(run));
    line(names.chain(values.map(|value| value.unwrap_or_else(|| "–".to_owned()))))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

fn of_sales(run: &Report, vouchers: usize) -> Option<&Median> {
    run.medians
        .iter()
        .find(|median| median.vouchers == vouchers)
}

fn rate(rate: Rate) -> String {
    format!(
        "{}/s, {:.0} ms, {:.0} ms",
        thousands(rate.per_second),
        rate.p50_ms,
        rate.p99_ms
    )
}

fn ratio(ratio: Ratio) -> String {
    format!(
        "**{:.2}** ({:.2} to {:.2})",
        ratio.ratio, ratio.ratio_min, ratio.ratio_max
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is positive and far below 2^53"
)]
fn thousands(per_second: f64) -> String {
    count(per_second.round() as u64)
}

fn accepted(runs: &Runs) -> String {
    let mut rows = Vec::new();
    for kind in runs.first().map_or(&[][..], |(_, run)| &run.medians) {
        let vouchers = kind.vouchers;
        let name = format!("{vouchers} sale(s): accepted, p50, p99");
        rows.push(row(runs, &[&name], |run| {
            Some(rate(of_sales(run, vouchers)?.accepted))
        }));
        rows.push(row(runs, &["of EVALSHA, least and most"], |run| {
            Some(ratio(of_sales(run, vouchers)?.ratio))
        }));
        rows.push(row(runs, &["all settled after"], |run| {
            Some(format!(
                "{:.1} s",
                of_sales(run, vouchers)?.settled_after_seconds
            ))
        }));
    }
    rows.push(row(runs, &["redis-benchmark EVALSHA -P 1"], |run| {
        Some(rate(run.ceiling))
    }));
    table(runs, "As fast as it goes", &[""], &rows)
}

fn processor_time(runs: &Runs) -> String {
    let mut rows = Vec::new();
    for kind in runs.first().map_or(&[][..], |(_, run)| &run.medians) {
        let sales = format!("{} sale(s)", kind.vouchers);
        for name in kind.cpu_us_per_order.keys() {
            rows.push(row(runs, &[&sales, name], |run| {
                let times = &of_sales(run, kind.vouchers)?.cpu_us_per_order;
                Some(format!("{:.1}", times.get(name)?))
            }));
        }
        rows.push(row(runs, &[&sales, "all"], |run| {
            let times = &of_sales(run, kind.vouchers)?.cpu_us_per_order;
            Some(format!("{:.1}", times.values().sum::<f64>()))
        }));
    }
    table(
        runs,
        "Microseconds of processor time an accepted order, until all were settled",
        &["", "process"],
        &rows,
    )
}

fn refusals(runs: &Runs) -> String {
    let mut rows = Vec::new();
    for (at, kind) in runs
        .first()
        .map_or(&[][..], |(_, run)| &run.sold_out)
        .iter()
        .enumerate()
    {
        let name = format!("sold out, {} sale(s): answers, p50, p99", kind.vouchers);
        rows.push(row(runs, &[&name], |run| {
            Some(rate(run.sold_out.get(at)?.answers))
        }));
        rows.push(row(runs, &["of refused tokens, least and most"], |run| {
            Some(ratio(run.sold_out.get(at)?.ratio))
        }));
    }
    rows.push(row(runs, &["tokens refused"], |run| {
        Some(rate(run.strangers))
    }));
    table(runs, "Refused", &[""], &rows)
}

fn loads(runs: &Runs) -> String {
    let mut rows = Vec::new();
    for (at, load) in runs
        .first()
        .map_or(&[][..], |(_, run)| &run.paced)
        .iter()
        .enumerate()
    {
        let name = format!("{:.0} %", load.of_the_peak * 100.0);
        rows.push(row(runs, &[&name], |run| {
            let paced = run.paced.get(at)?;
            Some(format!(
                "{}/s: {}",
                thousands(paced.offered_per_second),
                rate(paced.accepted)
            ))
        }));
    }
    rows.push(row(runs, &["70 %, EVALSHA alone"], |run| {
        Some(rate(run.stores_when_busy.reserve))
    }));
    rows.push(row(runs, &["70 %, acknowledged events alone"], |run| {
        Some(rate(run.stores_when_busy.produce))
    }));
    let text = table(
        runs,
        "Orders that come evenly, one sale: offered, accepted, p50, p99, by the share of the same round's peak",
        &["of the peak"],
        &rows,
    );
    text + "\n![Accepted orders against offered ones](performance/throughput.svg)\n\n\
            ![Latency against offered orders](performance/latency.svg)\n"
}

fn ceilings(runs: &Runs) -> String {
    let rows = [
        row(
            runs,
            &["kafka-producer-perf-test, records of 200 bytes, `acks=all`, one partition"],
            |run| Some(thousands(run.stores.produced_per_second)),
        ),
        row(
            runs,
            &["kafka-consumer-perf-test, the same records"],
            |run| Some(thousands(run.stores.consumed_per_second)),
        ),
        row(
            runs,
            &["COPY into a table like `orders`, with its indexes, 1,000 rows a transaction"],
            |run| Some(thousands(run.stores.copied_per_second)),
        ),
    ];
    table(runs, "What the stores do alone, a second", &[""], &rows)
}

fn throughput(runs: &Runs) -> String {
    let mut lines = Vec::new();
    for (number, (_, run)) in runs.iter().enumerate() {
        lines.push(Line {
            name: format!("run {}", number + 1),
            colour: COLOURS[number % COLOURS.len()],
            dashed: false,
            points: points(run, |paced| paced.accepted.per_second),
        });
    }
    chart::lines(
        "orders offered a second",
        "Orders accepted a second",
        &lines,
    )
}

fn latency(runs: &Runs) -> String {
    let mut lines = Vec::new();
    for (number, (_, run)) in runs.iter().enumerate() {
        let p99 = points(run, |paced| paced.accepted.p99_ms);
        let p50 = points(run, |paced| paced.accepted.p50_ms);
        let parts = [("p99", false, p99), ("p50", true, p50)];
        lines.extend(parts.map(|(part, dashed, points)| Line {
            name: format!("run {}, {part}", number + 1),
            colour: COLOURS[number % COLOURS.len()],
            dashed,
            points,
        }));
    }
    let y = "Milliseconds from when an order was to begin until its answer";
    chart::lines("orders offered a second", y, &lines)
}

fn points(run: &Report, of: fn(&PacedMedian) -> f64) -> Vec<(f64, f64)> {
    run.paced
        .iter()
        .map(|paced| (paced.offered_per_second, of(paced)))
        .collect()
}
