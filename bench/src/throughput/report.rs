//! Medians over the rounds, as a table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Output, Round, ThroughputOptions};
use crate::table::render;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: u32,
    connections: usize,
    medians: Vec<Median>,
    ceiling_per_second: f64,
    ceiling_p50_ms: f64,
    ceiling_p99_ms: f64,
    rounds: Vec<Round>,
}

/// The medians of one number of sales.
#[derive(Debug, Serialize)]
struct Median {
    vouchers: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Orders that were carried until they were settled, over the ceiling of the same round.
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
    settled_after_seconds: f64,
    cpu_us_per_order: BTreeMap<String, f64>,
}

impl Report {
    pub(super) fn new(options: &ThroughputOptions, rounds: Vec<Round>) -> Self {
        let ceiling = |pick: fn(&Round) -> f64| median(rounds.iter().map(pick));
        Self {
            seconds: options.seconds,
            connections: options.connections,
            medians: (0..options.vouchers.len())
                .map(|at| Median::of(&rounds, at))
                .collect(),
            ceiling_per_second: ceiling(|round| round.ceiling.per_second),
            ceiling_p50_ms: ceiling(|round| round.ceiling.p50_ms),
            ceiling_p99_ms: ceiling(|round| round.ceiling.p99_ms),
            rounds,
        }
    }

    pub(super) fn print(&self, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Json => println!("{}", serde_json::to_string_pretty(self)?),
            Output::Table => print!("{}", self.table()),
        }
        Ok(())
    }

    fn table(&self) -> String {
        let header = [
            "",
            "per second",
            "p50 ms",
            "p99 ms",
            "of the ceiling",
            "settled after",
        ];
        let mut rows = vec![header.map(String::from).to_vec()];
        for m in &self.medians {
            rows.push(vec![
                format!("accepted orders, {} sale(s)", m.vouchers),
                format!("{:.0}", m.per_second),
                format!("{:.1}", m.p50_ms),
                format!("{:.1}", m.p99_ms),
                format!("{:.2} ({:.2} to {:.2})", m.ratio, m.ratio_min, m.ratio_max),
                format!("{:.1} s", m.settled_after_seconds),
            ]);
        }
        rows.push(vec![
            "ceiling: redis-benchmark EVALSHA -P 1".to_owned(),
            format!("{:.0}", self.ceiling_per_second),
            format!("{:.1}", self.ceiling_p50_ms),
            format!("{:.1}", self.ceiling_p99_ms),
        ]);
        format!(
            "\nMedians of {} rounds of {} s, {} connections\n{}\n\
             Microseconds of CPU an accepted order, until settled (all processes of that name)\n{}",
            self.rounds.len(),
            self.seconds,
            self.connections,
            render(&rows),
            render(&self.cpu_rows())
        )
    }

    fn cpu_rows(&self) -> Vec<Vec<String>> {
        let mut header = vec![String::new()];
        header.extend(
            self.medians
                .iter()
                .map(|m| format!("{} sale(s)", m.vouchers)),
        );
        let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for m in &self.medians {
            for (name, micros) in &m.cpu_us_per_order {
                let row = rows.entry(name).or_insert_with(|| vec![name.clone()]);
                row.push(format!("{micros:.1}"));
            }
        }
        std::iter::once(header).chain(rows.into_values()).collect()
    }
}

impl Median {
    /// Of the runs that stand at position `at` in each round.
    fn of(rounds: &[Round], at: usize) -> Self {
        let runs = || rounds.iter().map(move |round| &round.http[at]);
        let first = &rounds[0].http[at];
        let cpu = |name: &String| {
            let of_run = runs().map(|run| run.cpu_us_per_order.get(name).copied().unwrap_or(0.0));
            (name.clone(), median(of_run))
        };
        let ratio = |round: &Round| round.http[at].carried_per_second / round.ceiling.per_second;
        let ratios = || rounds.iter().map(ratio);
        Self {
            vouchers: first.vouchers,
            per_second: median(runs().map(|run| run.per_second)),
            p50_ms: median(runs().map(|run| run.p50_ms)),
            p99_ms: median(runs().map(|run| run.p99_ms)),
            ratio: median(ratios()),
            ratio_min: ratios().fold(f64::INFINITY, f64::min),
            ratio_max: ratios().fold(0.0, f64::max),
            settled_after_seconds: median(runs().map(|run| run.settled_after_seconds)),
            cpu_us_per_order: first.cpu_us_per_order.keys().map(cpu).collect(),
        }
    }
}

/// The middle value; of an even number, the mean of the two in the middle. 0 of none.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted.len().saturating_sub(1) / 2, sorted.len() / 2);
    match (sorted.get(low), sorted.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throughput::{CeilingRun, HttpRun};

    fn round(http: f64, ceiling: f64) -> Round {
        Round {
            http: vec![HttpRun {
                vouchers: 1,
                per_second: http,
                p50_ms: 10.0,
                p99_ms: 20.0,
                answers: BTreeMap::new(),
                settled_after_seconds: 1.0,
                carried_per_second: http,
                cpu_us_per_order: BTreeMap::from([("java".to_owned(), 2.0)]),
            }],
            ceiling: CeilingRun {
                per_second: ceiling,
                p50_ms: 5.0,
                p99_ms: 9.0,
            },
        }
    }

    #[test]
    fn medians_of_odd_and_even_numbers() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), 2.5);
        assert_eq!(median([].into_iter()), 0.0);
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_own_ratios() {
        let options = ThroughputOptions {
            seconds: 5,
            connections: 512,
            vouchers: vec![1],
            rounds: 3,
            quick: false,
            output: Output::Table,
        };
        let rounds = vec![round(10.0, 20.0), round(30.0, 40.0), round(20.0, 100.0)];
        let report = Report::new(&options, rounds);
        let median = &report.medians[0];
        assert_eq!(
            (median.ratio_min, median.ratio, median.ratio_max),
            (0.2, 0.5, 0.75)
        );
        assert_eq!(report.medians[0].per_second, 20.0);
        assert_eq!(report.ceiling_per_second, 40.0);
        let table = report.table();
        assert!(table.contains("accepted orders, 1 sale(s)"), "{table}");
        assert!(table.contains("java"), "{table}");
    }
}
