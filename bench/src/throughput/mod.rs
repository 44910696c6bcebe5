//! Accepted orders a second over HTTP, beside what Redis alone does with the same script on the same
//! machine in the same minutes. The ratio of the two says more than either.

mod ceiling;
mod cpu;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use seckill_domain::VoucherId;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::ceiling::{Ceiling, CeilingRun};
use self::cpu::CpuTimes;
use self::report::Report;
use crate::answer::Answer;
use crate::api::{Api, NewSale};
use crate::credentials;
use crate::environment::Environment;
use crate::latency::Latencies;
use crate::load::{Load, Run};
use crate::orders::{Click, OrderCalls};
use crate::progress::{Stage, Wait, wait_for};
use crate::table::count;

/// More than any machine of this size accepts in a second: buyers are not to run out.
const USERS_PER_SECOND: u64 = 60_000;
/// A first guess; later runs of the ceiling take what the one before measured.
const CEILING_GUESS_PER_SECOND: f64 = 40_000.0;
const SETTLED_DEADLINE: Duration = Duration::from_secs(180);
/// Nothing expires while it is measured.
const HOLD_SECONDS: u32 = 7_200;
const SALE_DURATION: Duration = Duration::from_secs(7_200);

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What is measured, and for how long.
#[derive(Debug, Clone, Args)]
pub struct ThroughputOptions {
    /// Seconds of load in each run
    #[arg(long, default_value_t = 15)]
    pub seconds: u32,
    /// Connections, each with one request at a time; also redis-benchmark's clients
    #[arg(long, default_value_t = 512)]
    pub connections: usize,
    /// How many sales share the load: one measurement for each number
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    pub vouchers: Vec<usize>,
    /// How often everything is measured, by turns; medians are reported
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Three rounds of five seconds, for a first look
    #[arg(long, conflicts_with_all = ["seconds", "rounds"])]
    pub quick: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// One run over HTTP.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HttpRun {
    /// Sales that shared the load.
    vouchers: usize,
    /// Orders accepted a second: answers 202, reserved or pending.
    per_second: f64,
    /// Of all calls.
    p50_ms: f64,
    /// Of all calls.
    p99_ms: f64,
    /// How many answers of each kind.
    answers: BTreeMap<String, u64>,
    /// From the last answer until every order was a row and settled in Redis.
    settled_after_seconds: f64,
    /// Accepted orders over the time from the first call until all were settled: what the whole pipeline carries.
    carried_per_second: f64,
    /// Microseconds of processor time an accepted order, until all were settled, by process name.
    cpu_us_per_order: CpuTimes,
}

/// One turn of everything.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    http: Vec<HttpRun>,
    ceiling: CeilingRun,
}

/// Measures and prints.
///
/// # Errors
/// When the stack or `redis-benchmark` does not do its part.
pub async fn run(environment: &Environment, options: &ThroughputOptions) -> anyhow::Result<()> {
    let options = &options.clone().with_quick();
    ensure!(options.seconds > 0, "--seconds is at least 1");
    ensure!(options.rounds > 0, "--rounds is at least 1");
    ensure!(options.connections > 0, "--connections is at least 1");
    ensure!(
        options.vouchers.iter().all(|number| *number > 0),
        "--vouchers are at least 1"
    );
    let mut bench = Bench::new(environment, options).await?;
    // A broker that was just started is slow for its first seconds, and so are empty caches.
    eprintln!("Warm-up, not counted");
    for vouchers in &options.vouchers {
        bench.http(*vouchers).await?;
    }
    let mut ceiling_calls_per_second = CEILING_GUESS_PER_SECOND;
    let mut rounds = Vec::with_capacity(options.rounds);
    for number in 1..=options.rounds {
        eprintln!("Round {number} of {}", options.rounds);
        let mut http = Vec::new();
        for vouchers in &options.vouchers {
            http.push(bench.http(*vouchers).await?);
        }
        let ceiling = bench.ceiling(ceiling_calls_per_second).await?;
        ceiling_calls_per_second = ceiling.per_second;
        rounds.push(Round { http, ceiling });
    }
    Report::new(options, rounds).print(options.output)
}

impl ThroughputOptions {
    fn with_quick(self) -> Self {
        if self.quick {
            Self {
                seconds: 5,
                rounds: 3,
                ..self
            }
        } else {
            self
        }
    }
}

struct Bench<'a> {
    options: &'a ThroughputOptions,
    api: Api,
    bearers: Arc<[String]>,
    ceiling: Ceiling,
}

impl<'a> Bench<'a> {
    async fn new(
        environment: &Environment,
        options: &'a ThroughputOptions,
    ) -> anyhow::Result<Self> {
        let users = u64::from(options.seconds) * USERS_PER_SECOND;
        let stage = Stage::begin("Signing tokens", users);
        let bearers = credentials::bearers(&environment.token_secret, u32::try_from(users)?)?;
        stage.done(&format!("{} buyers", count(users)));
        Ok(Self {
            options,
            api: Api::new(environment).await?,
            bearers: bearers.into(),
            ceiling: Ceiling::new(&environment.stores.redis).await?,
        })
    }

    async fn http(&self, vouchers: usize) -> anyhow::Result<HttpRun> {
        let stage = Stage::begin(
            &format!("Orders, {vouchers} sale(s)"),
            self.bearers.len() as u64,
        );
        let sales = self.open_sales(vouchers).await?;
        let before = cpu::processes();
        let run = self.order(&sales, &stage).await?;
        let ended = Instant::now();
        for sale in &sales {
            self.settled(*sale).await?;
        }
        let settled_after = ended.elapsed();
        let cpu = cpu::used_between(&before, &cpu::processes());
        for sale in &sales {
            self.api.close_sale(*sale).await?;
        }
        let result = summarise(vouchers, &run, settled_after, &cpu)?;
        stage.done(&format!("{:.0} accepted a second", result.per_second));
        Ok(result)
    }

    async fn ceiling(&mut self, calls_per_second: f64) -> anyhow::Result<CeilingRun> {
        let stage = Stage::begin("Redis alone", 1);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a measured rate is positive and far below 2^53"
        )]
        let calls = (calls_per_second * f64::from(self.options.seconds)) as u64;
        let run = self
            .ceiling
            .run(calls.max(1), self.options.connections)
            .await?;
        stage.done(&format!("{:.0} reservations a second", run.per_second));
        Ok(run)
    }

    async fn open_sales(&self, vouchers: usize) -> anyhow::Result<Vec<VoucherId>> {
        let now = OffsetDateTime::now_utc();
        let sale = NewSale {
            title: "Benchmark".to_owned(),
            price_cents: 100,
            currency: "EUR",
            stock: self.bearers.len() as u64,
            max_quantity: 1,
            opens_at: now.format(&Rfc3339)?,
            closes_at: (now + SALE_DURATION).format(&Rfc3339)?,
            hold_seconds: HOLD_SECONDS,
        };
        let mut sales = Vec::with_capacity(vouchers);
        for _ in 0..vouchers {
            sales.push(self.api.open_sale(&sale).await?);
        }
        Ok(sales)
    }

    async fn order(&self, sales: &[VoucherId], stage: &Stage) -> anyhow::Result<Run<Answer>> {
        let users = 1..=u32::try_from(self.bearers.len())?;
        let click = |user: u32| Click {
            user,
            sale: user as usize % sales.len(),
            key: None,
        };
        let calls = OrderCalls::new(
            &self.api.public,
            sales,
            Arc::clone(&self.bearers),
            users.map(click).collect(),
        );
        let load = Load {
            endpoint: Arc::clone(&self.api.public),
            connections: self.options.connections,
            stop_after: Duration::from_secs(u64::from(self.options.seconds)),
            bar: stage.bar().clone(),
        };
        load.run(Arc::new(calls)).await
    }

    async fn settled(&self, sale: VoucherId) -> anyhow::Result<()> {
        let at_rest = async || {
            let ledger = self.api.ledger(sale).await?;
            Ok(if ledger.is_at_rest() {
                Wait::Over(())
            } else {
                Wait::On(format!("the ledger says {ledger:?}"))
            })
        };
        wait_for("the orders to be settled", SETTLED_DEADLINE, at_rest).await
    }
}

fn summarise(
    vouchers: usize,
    run: &Run<Answer>,
    settled_after: Duration,
    cpu_seconds: &CpuTimes,
) -> anyhow::Result<HttpRun> {
    let accepted = run
        .samples
        .iter()
        .filter(|s| s.answer.order_id().is_some())
        .count();
    let mut answers = BTreeMap::new();
    for sample in &run.samples {
        *answers.entry(sample.answer.label()).or_default() += 1;
    }
    let latencies = Latencies::of(run.samples.iter().map(|sample| sample.latency))
        .context("no call was made")?;
    Ok(HttpRun {
        vouchers,
        per_second: accepted as f64 / run.elapsed.as_secs_f64(),
        p50_ms: latencies.p50.as_secs_f64() * 1e3,
        p99_ms: latencies.p99.as_secs_f64() * 1e3,
        answers,
        settled_after_seconds: settled_after.as_secs_f64(),
        carried_per_second: accepted as f64 / (run.elapsed + settled_after).as_secs_f64(),
        cpu_us_per_order: cpu_seconds
            .iter()
            .map(|(name, seconds)| (name.clone(), seconds * 1e6 / accepted.max(1) as f64))
            .collect(),
    })
}
