//! Accepted orders a second over HTTP, beside what Redis alone does with the same script on the same
//! machine in the same minutes. The ratio of the two says more than either.

mod ceiling;
mod refusals;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use seckill_domain::VoucherId;
use serde::Serialize;

use self::ceiling::Ceiling;
use self::report::Report;
use crate::answer::Answer;
use crate::api::{Api, NewSale};
use crate::cpu::{self, CpuTimes};
use crate::credentials;
use crate::environment::Environment;
use crate::latency::Latencies;
use crate::load::{Load, Pace, Run};
use crate::orders::{Click, OrderCalls};
use crate::progress::{Stage, Wait, wait_for};
use crate::table::count;

/// More than any machine of this size accepts in a second: buyers are not to run out.
const USERS_PER_SECOND: u64 = 60_000;
/// A first guess; later runs of the ceiling take what the one before measured.
const CEILING_GUESS_PER_SECOND: f64 = 40_000.0;
/// With a thousand sales, putting up one after the other would take longer than the load.
const CALLS_AT_A_TIME: usize = 16;
const SETTLED_DEADLINE: Duration = Duration::from_secs(180);
/// A stack is warm when an order takes at least so much of the processor time that it took the time before.
const WARM: f64 = 0.9;
/// On a machine that does other work, the time of an order may go up and down for ever.
const WARM_UPS_MAX: usize = 6;
/// A sale that goes well leaves room.
const PACE_OF_PEAK: f64 = 0.7;
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

/// How fast something went, and how long it took.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Rate {
    /// Of those that count.
    per_second: f64,
    /// Half of all were at least this fast.
    p50_ms: f64,
    /// 99 of a hundred.
    p99_ms: f64,
}

/// Orders over HTTP.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HttpRun {
    /// Sales that shared the load.
    vouchers: usize,
    /// Orders accepted a second: answers 202, reserved or pending.
    #[serde(flatten)]
    accepted: Rate,
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
    /// One for each number of sales.
    http: Vec<HttpRun>,
    /// Orders at 70 % of what the first of `http` took, evenly and whether or not those before were answered.
    at_a_pace: HttpRun,
    ceiling: Rate,
    /// Answers of sales that are sold out, one for each number of sales.
    sold_out: Vec<Rate>,
    /// Answers to tokens that are refused.
    strangers: Rate,
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
    eprintln!("Warm-up, not counted");
    bench.warm_up().await?;
    let mut ceiling_calls_per_second = CEILING_GUESS_PER_SECOND;
    let mut rounds = Vec::with_capacity(options.rounds);
    for number in 1..=options.rounds {
        eprintln!("Round {number} of {}", options.rounds);
        let round = bench.round(ceiling_calls_per_second).await?;
        ceiling_calls_per_second = round.ceiling.per_second;
        rounds.push(round);
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

    /// Until an order costs hardly less than the time before: a broker that was just started compiles its own code for
    /// its first minute, and takes up to a third of all processor time.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let mut before = f64::INFINITY;
        for _ in 0..WARM_UPS_MAX {
            let mut cost = 0.0;
            for vouchers in &self.options.vouchers {
                let run = self.http(*vouchers, Pace::WhenAnswered).await?;
                cost += run.cpu_us_per_order.values().sum::<f64>();
            }
            if cost >= before * WARM {
                break;
            }
            before = cost;
        }
        Ok(())
    }

    async fn round(&mut self, ceiling_calls_per_second: f64) -> anyhow::Result<Round> {
        let mut http = Vec::new();
        for vouchers in &self.options.vouchers {
            http.push(self.http(*vouchers, Pace::WhenAnswered).await?);
        }
        let ceiling = self.ceiling(ceiling_calls_per_second).await?;
        let mut sold_out = Vec::new();
        for vouchers in &self.options.vouchers {
            sold_out.push(self.sold_out(*vouchers).await?);
        }
        let strangers = self.strangers().await?;
        let pace = Pace::PerSecond(PACE_OF_PEAK * http[0].accepted.per_second);
        let at_a_pace = self.http(http[0].vouchers, pace).await?;
        Ok(Round {
            http,
            at_a_pace,
            ceiling,
            sold_out,
            strangers,
        })
    }

    async fn http(&self, vouchers: usize, pace: Pace) -> anyhow::Result<HttpRun> {
        let stage = Stage::begin(
            &format!("Orders, {vouchers} sale(s)"),
            self.bearers.len() as u64,
        );
        let sales = self.open_sales(vouchers, self.bearers.len()).await?;
        let crowd = Crowd {
            sales: &sales,
            bearers: Arc::clone(&self.bearers),
            clicks: (1..=self.users()?)
                .map(|user| Click::of(user, vouchers))
                .collect(),
            pace,
            time: Duration::from_secs(self.options.seconds.into()),
        };
        let before = cpu::processes();
        let run = self.send(crowd, &stage).await?;
        let ended = Instant::now();
        let () = several_at_a_time(sales.iter().map(|sale| self.settled(*sale))).await?;
        let settled_after = ended.elapsed();
        let cpu = cpu::used_between(&before, &cpu::processes());
        self.close(&sales).await?;
        let result = summarise(vouchers, &run, settled_after, &cpu)?;
        let accepted = result.accepted.per_second;
        stage.done(&format!("{accepted:.0} accepted a second"));
        Ok(result)
    }

    async fn ceiling(&mut self, calls_per_second: f64) -> anyhow::Result<Rate> {
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

    async fn open_sales(&self, vouchers: usize, stock: usize) -> anyhow::Result<Vec<VoucherId>> {
        let sale = NewSale::from_now("Benchmark", stock as u64, HOLD_SECONDS, SALE_DURATION)?;
        several_at_a_time((0..vouchers).map(|_| self.api.open_sale(&sale))).await
    }

    async fn close(&self, sales: &[VoucherId]) -> anyhow::Result<()> {
        several_at_a_time(sales.iter().map(|sale| self.api.close_sale(*sale))).await
    }

    /// How many buyers there are.
    fn users(&self) -> anyhow::Result<u32> {
        Ok(u32::try_from(self.bearers.len())?)
    }

    /// Refusals do not change: less time is enough.
    fn time_of_refusals(&self) -> Duration {
        Duration::from_secs(self.options.seconds.into()) / 3
    }

    async fn send(&self, crowd: Crowd<'_>, stage: &Stage) -> anyhow::Result<Run<Answer>> {
        let public = &self.api.public;
        let calls = OrderCalls::new(public, crowd.sales, crowd.bearers, crowd.clicks);
        let load = Load {
            endpoint: Arc::clone(public),
            connections: self.options.connections,
            pace: crowd.pace,
            stop_after: crowd.time,
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

/// What these calls return, in no order. After an error no more are begun.
async fn several_at_a_time<T, All: Default + Extend<T>>(
    calls: impl Iterator<Item = impl Future<Output = anyhow::Result<T>>>,
) -> anyhow::Result<All> {
    let calls = stream::iter(calls).buffer_unordered(CALLS_AT_A_TIME);
    calls.try_collect().await
}

/// Who comes, and when.
struct Crowd<'a> {
    sales: &'a [VoucherId],
    bearers: Arc<[String]>,
    clicks: Vec<Click>,
    pace: Pace,
    time: Duration,
}

impl Rate {
    fn of(run: &Run<Answer>, counts: fn(&Answer) -> bool) -> anyhow::Result<Self> {
        let counted = run.samples.iter().filter(|sample| counts(&sample.answer));
        let latencies = Latencies::of(run.samples.iter().map(|sample| sample.latency))
            .context("no call was made")?;
        Ok(Self {
            per_second: counted.count() as f64 / run.elapsed.as_secs_f64(),
            p50_ms: latencies.p50.as_secs_f64() * 1e3,
            p99_ms: latencies.p99.as_secs_f64() * 1e3,
        })
    }
}

fn is_order(answer: &Answer) -> bool {
    answer.order_id().is_some()
}

/// How many answers there were of each kind.
fn labels(run: &Run<Answer>) -> BTreeMap<String, u64> {
    let mut answers = BTreeMap::new();
    for sample in &run.samples {
        *answers.entry(sample.answer.label()).or_default() += 1;
    }
    answers
}

fn summarise(
    vouchers: usize,
    run: &Run<Answer>,
    settled_after: Duration,
    cpu_seconds: &CpuTimes,
) -> anyhow::Result<HttpRun> {
    let accepted = Rate::of(run, is_order)?;
    let orders = accepted.per_second * run.elapsed.as_secs_f64();
    Ok(HttpRun {
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
