//! Medians over the rounds, as a table and as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;

use super::measured::{Rate, Round, StoreLatencies, StoreRates};
use super::{BUSY, LOADS, Output, ThroughputOptions};
use crate::machine::Machine;
use crate::table::render;

/// With more than this from the last answer until all is settled, the fold has fallen behind.
const SETTLED_WITHIN_SECONDS: f64 = 1.0;

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// The day, in UTC.
    pub(super) measured_on: String,
    pub(super) machine: Machine,
    pub(super) seconds: u32,
    pub(super) connections: usize,
    pub(super) medians: Vec<Median>,
    /// One for each load at which orders come evenly.
    pub(super) paced: Vec<PacedMedian>,
    pub(super) ceiling: Rate,
    pub(super) stores: StoreRates,
    pub(super) stores_when_busy: StoreLatencies,
    pub(super) sold_out: Vec<SoldOut>,
    pub(super) strangers: Rate,
    pub(super) rounds: Vec<Round>,
}

/// The medians of one number of sales.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Median {
    pub(super) vouchers: usize,
    #[serde(flatten)]
    pub(super) accepted: Rate,
    /// Orders that were carried until they were settled, over the ceiling of the same round.
    #[serde(flatten)]
    pub(super) ratio: Ratio,
    pub(super) settled_after_seconds: f64,
    pub(super) cpu_us_per_order: BTreeMap<String, f64>,
}

/// The medians of one load at which orders come evenly.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PacedMedian {
    pub(super) of_the_peak: f64,
    pub(super) offered_per_second: f64,
    #[serde(flatten)]
    pub(super) accepted: Rate,
}

/// The medians of one number of sales that are sold out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SoldOut {
    pub(super) vouchers: usize,
    #[serde(flatten)]
    pub(super) answers: Rate,
    /// Over the answers to refused tokens of the same round.
    #[serde(flatten)]
    pub(super) ratio: Ratio,
}

/// The median over the rounds of what is divided within each.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    pub(super) ratio: f64,
    pub(super) ratio_min: f64,
    pub(super) ratio_max: f64,
}

impl Report {
    pub(super) fn new(options: &ThroughputOptions, machine: Machine, rounds: Vec<Round>) -> Self {
        let kinds = || options.vouchers.iter().copied().enumerate();
        let of_stores =
            |part: fn(&StoreRates) -> f64| median(rounds.iter().map(|round| part(&round.stores)));
        Self {
            measured_on: UtcDateTime::now().date().to_string(),
            machine,
            seconds: options.seconds,
            connections: options.connections,
            medians: kinds()
                .map(|(at, vouchers)| Median::of(&rounds, at, vouchers))
                .collect(),
            paced: (0..LOADS.len())
                .map(|at| PacedMedian::of(&rounds, at))
                .collect(),
            ceiling: Rate::median(&rounds, |round| round.ceiling),
            stores: StoreRates {
                produced_per_second: of_stores(|stores| stores.produced_per_second),
                consumed_per_second: of_stores(|stores| stores.consumed_per_second),
                copied_per_second: of_stores(|stores| stores.copied_per_second),
            },
            stores_when_busy: StoreLatencies {
                reserve: Rate::median(&rounds, |round| round.stores_when_busy.reserve),
                produce: Rate::median(&rounds, |round| round.stores_when_busy.produce),
            },
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
        rows.extend(self.paced.iter().map(|p| {
            let share = p.of_the_peak * 100.0;
            let name = format!("accepted orders at {share:.0} % of the first line, evenly");
            row(name, &p.accepted, None, None)
        }));
        let StoreLatencies { reserve, produce } = self.stores_when_busy;
        let share = BUSY * 100.0;
        for (store, rate) in [("EVALSHA", reserve), ("acknowledged events", produce)] {
            rows.push(row(
                format!("{store} alone at {share:.0} % of the first line, evenly"),
                &rate,
                None,
                None,
            ));
        }
        rows.extend(self.sold_out.iter().map(|s| {
            let name = format!("sold out, {} sale(s)", s.vouchers);
            row(name, &s.answers, Some(s.ratio), None)
        }));
        let strangers = "ceiling of these: tokens refused".to_owned();
        rows.push(row(strangers, &self.strangers, None, None));
        let stores = self.stores;
        format!(
            "{}\nMedians of {} rounds of {} s, {} connections\n{}\n\
             Stores alone, a second: Kafka writes {:.0} records and reads {:.0}, PostgreSQL copies {:.0} orders\n\n\
             Microseconds of CPU an accepted order, until settled (all processes of that name)\n{}",
            self.behind().map(|why| why + "\n").unwrap_or_default(),
            self.rounds.len(),
            self.seconds,
            self.connections,
            render(&rows),
            stores.produced_per_second,
            stores.consumed_per_second,
            stores.copied_per_second,
            render(&self.cpu_rows())
        )
    }

    /// Says so if the fold fell behind in some runs: what was accepted then says less about the next minute.
    pub(super) fn behind(&self) -> Option<String> {
        let runs = self.rounds.iter().flat_map(|round| {
            let paced = round.paced.iter().map(|paced| &paced.run);
            round.http.iter().chain(paced)
        });
        let settled: Vec<f64> = runs.map(|run| run.settled_after_seconds).collect();
        let late = settled.iter().filter(|s| **s > SETTLED_WITHIN_SECONDS);
        let most = settled.iter().copied().fold(0.0, f64::max);
        let (late, all) = (late.count(), settled.len());
        (late > 0).then(|| {
            format!(
                "The fold fell behind in {late} of {all} runs: the last order was settled up to {most:.1} s after its \
                 answer."
            )
        })
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

impl PacedMedian {
    /// Of the runs that stand at position `at` in each round.
    fn of(rounds: &[Round], at: usize) -> Self {
        let offered = rounds
            .iter()
            .map(|round| round.paced[at].offered_per_second);
        Self {
            of_the_peak: LOADS[at],
            offered_per_second: median(offered),
            accepted: Rate::median(rounds, |round| round.paced[at].run.accepted),
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
mod tests;
