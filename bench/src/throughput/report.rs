//! Medians over the rounds, as a table and as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Output, PACE_OF_PEAK, Rate, Round, ThroughputOptions};
use crate::table::render;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: u32,
    connections: usize,
    medians: Vec<Median>,
    at_a_pace: Rate,
    ceiling: Rate,
    sold_out: Vec<SoldOut>,
    strangers: Rate,
    rounds: Vec<Round>,
}

/// The medians of one number of sales.
#[derive(Debug, Serialize)]
struct Median {
    vouchers: usize,
    #[serde(flatten)]
    accepted: Rate,
    /// Orders that were carried until they were settled, over the ceiling of the same round.
    #[serde(flatten)]
    ratio: Ratio,
    settled_after_seconds: f64,
    cpu_us_per_order: BTreeMap<String, f64>,
}

/// The medians of one number of sales that are sold out.
#[derive(Debug, Serialize)]
struct SoldOut {
    vouchers: usize,
    #[serde(flatten)]
    answers: Rate,
    /// Over the answers to refused tokens of the same round.
    #[serde(flatten)]
    ratio: Ratio,
}

/// The median over the rounds of what is divided within each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Ratio {
    ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

impl Report {
    pub(super) fn new(options: &ThroughputOptions, rounds: Vec<Round>) -> Self {
        let kinds = || options.vouchers.iter().copied().enumerate();
        Self {
            seconds: options.seconds,
            connections: options.connections,
            medians: kinds()
                .map(|(at, vouchers)| Median::of(&rounds, at, vouchers))
                .collect(),
            at_a_pace: Rate::median(&rounds, |round| round.at_a_pace.accepted),
            ceiling: Rate::median(&rounds, |round| round.ceiling),
            sold_out: kinds()
                .map(|(at, vouchers)| SoldOut {
                    vouchers,
                    answers: Rate::median(&rounds, |round| round.sold_out[at]),
                    ratio: Ratio::of(&rounds, |round| {
                        round.sold_out[at].per_second / round.strangers.per_second
                    }),
                })
                .collect(),
            strangers: Rate::median(&rounds, |round| round.strangers),
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
        let row = |name: String, rate: &Rate, ratio: Option<Ratio>, settled: Option<f64>| {
            let ratio = ratio.map(|r| {
                let Ratio {
                    ratio,
                    ratio_min,
                    ratio_max,
                } = r;
                format!("{ratio:.2} ({ratio_min:.2} to {ratio_max:.2})")
            });
            vec![
                name,
                format!("{:.0}", rate.per_second),
                format!("{:.1}", rate.p50_ms),
                format!("{:.1}", rate.p99_ms),
                ratio.unwrap_or_default(),
                settled.map(|s| format!("{s:.1} s")).unwrap_or_default(),
            ]
        };
        let mut rows = vec![header.map(String::from).to_vec()];
        rows.extend(self.medians.iter().map(|m| {
            let name = format!("accepted orders, {} sale(s)", m.vouchers);
            let settled = Some(m.settled_after_seconds);
            row(name, &m.accepted, Some(m.ratio), settled)
        }));
        let ceiling = "ceiling: redis-benchmark EVALSHA -P 1".to_owned();
        rows.push(row(ceiling, &self.ceiling, None, None));
        let at_a_pace = format!(
            "accepted orders, {} sale(s), at {:.0} % of the first line",
            self.medians.first().map_or(0, |m| m.vouchers),
            PACE_OF_PEAK * 100.0
        );
        rows.push(row(at_a_pace, &self.at_a_pace, None, None));
        rows.extend(self.sold_out.iter().map(|s| {
            let name = format!("sold out, {} sale(s)", s.vouchers);
            row(name, &s.answers, Some(s.ratio), None)
        }));
        let strangers = "ceiling of these: tokens refused".to_owned();
        rows.push(row(strangers, &self.strangers, None, None));
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
    fn of(rounds: &[Round], at: usize, vouchers: usize) -> Self {
        let runs = || rounds.iter().map(move |round| &round.http[at]);
        let cpu = |name: &String| {
            let of_run = runs().map(|run| run.cpu_us_per_order.get(name).copied().unwrap_or(0.0));
            (name.clone(), median(of_run))
        };
        Self {
            vouchers,
            accepted: Rate::median(rounds, |round| round.http[at].accepted),
            ratio: Ratio::of(rounds, |round| {
                round.http[at].carried_per_second / round.ceiling.per_second
            }),
            settled_after_seconds: median(runs().map(|run| run.settled_after_seconds)),
            cpu_us_per_order: rounds[0].http[at]
                .cpu_us_per_order
                .keys()
                .map(cpu)
                .collect(),
        }
    }
}

impl Rate {
    fn median(rounds: &[Round], of: impl Fn(&Round) -> Self) -> Self {
        let part = |pick: fn(Self) -> f64| median(rounds.iter().map(|round| pick(of(round))));
        Self {
            per_second: part(|rate| rate.per_second),
            p50_ms: part(|rate| rate.p50_ms),
            p99_ms: part(|rate| rate.p99_ms),
        }
    }
}

impl Ratio {
    fn of(rounds: &[Round], of: impl Fn(&Round) -> f64) -> Self {
        let ratios = || rounds.iter().map(&of);
        Self {
            ratio: median(ratios()),
            ratio_min: ratios().fold(f64::INFINITY, f64::min),
            ratio_max: ratios().fold(0.0, f64::max),
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
    use crate::throughput::HttpRun;

    fn rate(per_second: f64) -> Rate {
        Rate {
            per_second,
            p50_ms: 10.0,
            p99_ms: 20.0,
        }
    }

    fn run(per_second: f64) -> HttpRun {
        HttpRun {
            vouchers: 1,
            accepted: rate(per_second),
            answers: BTreeMap::new(),
            settled_after_seconds: 1.0,
            carried_per_second: per_second,
            cpu_us_per_order: BTreeMap::from([("java".to_owned(), 2.0)]),
        }
    }

    fn round(http: f64, ceiling: f64) -> Round {
        Round {
            http: vec![run(http)],
            at_a_pace: run(http / 2.0),
            ceiling: rate(ceiling),
            sold_out: vec![rate(3.0 * http)],
            strangers: rate(4.0 * ceiling),
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
        let of = |ratio: f64, ratio_min: f64, ratio_max: f64| Ratio {
            ratio,
            ratio_min,
            ratio_max,
        };
        assert_eq!(report.medians[0].ratio, of(0.5, 0.2, 0.75));
        assert_eq!(report.sold_out[0].ratio, of(0.375, 0.15, 0.5625));
        assert_eq!(report.medians[0].accepted.per_second, 20.0);
        assert_eq!(report.ceiling.per_second, 40.0);
        assert_eq!(report.at_a_pace.per_second, 10.0);
        let table = report.table();
        for line in [
            "accepted orders, 1 sale(s) ",
            "at 70 % of the first line",
            "sold out, 1 sale(s)",
            "java",
        ] {
            assert!(table.contains(line), "{line}: {table}");
        }
    }
}
