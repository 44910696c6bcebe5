//! What is measured, as the JSON has it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::cpu::CpuTimes;
use crate::latency::Latencies;
use crate::load::Run;

/// How fast something went, and how long it took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// Of those that count.
    pub(crate) per_second: f64,
    /// Half of all were at least this fast.
    pub(crate) p50_ms: f64,
    /// 99 of a hundred.
    pub(crate) p99_ms: f64,
}

/// Orders over HTTP.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HttpRun {
    /// Sales that shared the load.
    pub(crate) vouchers: usize,
    /// Orders accepted a second: answers 202, reserved or pending.
    #[serde(flatten)]
    pub(crate) accepted: Rate,
    /// How many answers of each kind.
    pub(crate) answers: BTreeMap<String, u64>,
    /// From the last answer until every order was a row and settled in Redis.
    pub(crate) settled_after_seconds: f64,
    /// Accepted orders over the time from the first call until all were settled: what the whole pipeline carries.
    pub(crate) carried_per_second: f64,
    /// Microseconds of processor time an accepted order, until all were settled, by process name.
    pub(crate) cpu_us_per_order: CpuTimes,
}

/// Orders that come evenly, whether or not those before were answered. Latency counts from the moment at which an
/// order was to begin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PacedRun {
    /// The share of what was accepted in the same round as fast as it went.
    pub(crate) of_the_peak: f64,
    /// Orders that were to begin, a second.
    pub(crate) offered_per_second: f64,
    #[serde(flatten)]
    pub(crate) run: HttpRun,
}

/// What each store does alone, in records or rows a second.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StoreRates {
    /// kafka-producer-perf-test, `acks=all`, one partition.
    pub(crate) produced_per_second: f64,
    /// kafka-consumer-perf-test, the same records.
    pub(crate) consumed_per_second: f64,
    /// COPY into a table with the columns, checks and indexes of `orders`.
    pub(crate) copied_per_second: f64,
}

/// How soon Redis and Kafka answer, each alone, when calls come evenly.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct StoreLatencies {
    /// EVALSHA of the order's script, one order a call.
    pub(crate) reserve: Rate,
    /// An order's event, until it is acknowledged: the ingress' producer, one partition.
    pub(crate) produce: Rate,
}

/// One turn of everything.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Round {
    /// One for each number of sales.
    pub(crate) http: Vec<HttpRun>,
    /// One for each load, with as many sales as the first of `http`.
    pub(crate) paced: Vec<PacedRun>,
    pub(crate) ceiling: Rate,
    pub(crate) stores: StoreRates,
    /// At the rate of the load of [`super::BUSY`].
    pub(crate) stores_when_busy: StoreLatencies,
    /// Answers of sales that are sold out, one for each number of sales.
    pub(crate) sold_out: Vec<Rate>,
    /// Answers to tokens that are refused.
    pub(crate) strangers: Rate,
}

impl Rate {
    /// `counts` says which answers count. Latencies are those of all.
    pub(super) fn of(run: &Run<Answer>, counts: fn(&Answer) -> bool) -> anyhow::Result<Self> {
        let counted = run.samples.iter().filter(|sample| counts(&sample.answer));
        let latencies = run.samples.iter().map(|sample| sample.latency);
        Self::new(counted.count(), run.elapsed, latencies)
    }

    /// Of so many that count.
    pub(super) fn new(
        counted: usize,
        elapsed: Duration,
        latencies: impl IntoIterator<Item = Duration>,
    ) -> anyhow::Result<Self> {
        let latencies = Latencies::of(latencies).context("no call was made")?;
        Ok(Self {
            per_second: counted as f64 / elapsed.as_secs_f64(),
            p50_ms: latencies.p50.as_secs_f64() * 1e3,
            p99_ms: latencies.p99.as_secs_f64() * 1e3,
        })
    }
}

impl HttpRun {
    pub(super) fn of(
        vouchers: usize,
        run: &Run<Answer>,
        settled_after: Duration,
        cpu_seconds: &CpuTimes,
    ) -> anyhow::Result<Self> {
        let accepted = Rate::of(run, is_order)?;
        let orders = accepted.per_second * run.elapsed.as_secs_f64();
        Ok(Self {
            vouchers,
            accepted,
            answers: labels(run),
            settled_after_seconds: settled_after.as_secs_f64(),
            carried_per_second: orders / (run.elapsed + settled_after).as_secs_f64(),
            cpu_us_per_order: cpu_seconds
                .iter()
                .map(|(name, seconds)| (name.clone(), seconds * 1e6 / orders.max(1.0)))
                .collect(),
        })
    }
}

pub(super) fn is_order(answer: &Answer) -> bool {
    answer.order_id().is_some()
}

/// How many answers there were of each kind.
pub(super) fn labels(run: &Run<Answer>) -> BTreeMap<String, u64> {
    let mut answers = BTreeMap::new();
    for sample in &run.samples {
        *answers.entry(sample.answer.label()).or_default() += 1;
    }
    answers
}
