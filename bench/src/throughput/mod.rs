//! Accepted orders a second over HTTP, beside what Redis alone does with the same script on the same
//! machine in the same minutes. The ratio of the two says more than either.

mod ceiling;
mod measured;
pub mod page;
mod refusals;
pub mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::{Args, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use seckill_domain::VoucherId;
use seckill_stores::StoreSettings;

use self::ceiling::{copy, kafka, redis};
use self::measured::{HttpRun, PacedRun, Rate, Round, StoreLatencies, StoreRates};
use self::report::Report;
use crate::answer::Answer;
use crate::api::{Api, Ledger, NewSale};
use crate::cpu;
use crate::credentials;
use crate::environment::Environment;
use crate::load::{Load, Pace, Run};
use crate::machine::Machine;
use crate::orders::{Click, OrderCalls};
use crate::progress::Stage;
use crate::redis_server;
use crate::table::count;

/// More than any machine of this size accepts in a second: buyers are not to run out.
const USERS_PER_SECOND: u64 = 60_000;
/// A first guess; later runs of the ceiling take what the one before measured.
const CEILING_GUESS_PER_SECOND: f64 = 40_000.0;
/// A sale takes a second until everybody knows of it: put up one after the other, a thousand would take longer than
/// the load.
const CALLS_AT_A_TIME: usize = 128;
const SETTLED_DEADLINE: Duration = Duration::from_secs(180);
/// A stack is warm when an order takes at least so much of the processor time that it took the time before.
const WARM: f64 = 0.9;
/// On a machine that does other work, the time of an order may go up and down for ever.
const WARM_UPS_MAX: usize = 6;
/// Shares of the peak at which orders come evenly.
const LOADS: [f64; 5] = [0.25, 0.5, BUSY, 0.85, 1.0];
/// The load of which there is a goal.
const BUSY: f64 = 0.7;
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
    /// Two rounds of five seconds, for a first look: two minutes
    #[arg(long, conflicts_with_all = ["seconds", "rounds"])]
    pub quick: bool,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
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
    let stores = &environment.stores;
    let mut redis = redis_server::connect(&stores.redis).await?;
    let machine = Machine::describe(stores.database_url.expose(), &mut redis).await?;
    let bench = Bench::new(environment, options).await?;
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
    Report::new(options, machine, rounds).print(options.output)
}

impl ThroughputOptions {
    fn with_quick(self) -> Self {
        if self.quick {
            Self {
                seconds: 5,
                rounds: 2,
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
    stores: &'a StoreSettings,
    bearers: Arc<[String]>,
    ceiling: redis::Ceiling,
}

impl<'a> Bench<'a> {
    async fn new(
        environment: &'a Environment,
        options: &'a ThroughputOptions,
    ) -> anyhow::Result<Self> {
        let users = u64::from(options.seconds) * USERS_PER_SECOND;
        let stage = Stage::begin("Signing tokens", users);
        let bearers = credentials::bearers(&environment.token_secret, u32::try_from(users)?)?;
        stage.done(&format!("{} buyers", count(users)));
        let stores = &environment.stores;
        Ok(Self {
            options,
            api: Api::new(environment).await?,
            stores,
            bearers: bearers.into(),
            ceiling: redis::Ceiling::new(&stores.redis).await?,
        })
    }

    /// Until an order costs hardly less than the time before: a broker that was just started compiles its own code for
    /// its first minute, and takes up to a third of all processor time.
    async fn warm_up(&self) -> anyhow::Result<()> {
        let mut before = f64::INFINITY;
        for _ in 0..WARM_UPS_MAX {
            let mut cost = 0.0;
            for vouchers in &self.options.vouchers {
                let run = self
                    .http(*vouchers, self.time(), Pace::WhenAnswered)
                    .await?;
                cost += run.cpu_us_per_order.values().sum::<f64>();
            }
            if cost >= before * WARM {
                break;
            }
            before = cost;
        }
        Ok(())
    }

    async fn round(&self, ceiling_calls_per_second: f64) -> anyhow::Result<Round> {
        let mut http = Vec::new();
        for vouchers in &self.options.vouchers {
            http.push(
                self.http(*vouchers, self.time(), Pace::WhenAnswered)
                    .await?,
            );
        }
        let ceiling = self.ceiling(ceiling_calls_per_second).await?;
        let mut sold_out = Vec::new();
        for vouchers in &self.options.vouchers {
            sold_out.push(self.sold_out(*vouchers).await?);
        }
        let strangers = self.strangers().await?;
        let mut paced = Vec::new();
        for of_the_peak in LOADS {
            let offered_per_second = of_the_peak * http[0].accepted.per_second;
            let pace = Pace::PerSecond(offered_per_second);
            let run = self.http(http[0].vouchers, self.time() / 2, pace).await?;
            paced.push(PacedRun {
                of_the_peak,
                offered_per_second,
                run,
            });
        }
        let when_busy = BUSY * http[0].accepted.per_second;
        Ok(Round {
            http,
            paced,
            ceiling,
            stores: self.stores().await?,
            stores_when_busy: self.stores_evenly(when_busy).await?,
            sold_out,
            strangers,
        })
    }

    async fn http(&self, vouchers: usize, time: Duration, pace: Pace) -> anyhow::Result<HttpRun> {
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
            time,
        };
        let before = cpu::processes();
        let run = self.send(crowd, &stage).await?;
        let ended = Instant::now();
        let settled = sales.iter().map(|sale| {
            let what = "the orders to be settled";
            self.api
                .until_ledger(*sale, what, SETTLED_DEADLINE, Ledger::is_at_rest)
        });
        let () = several_at_a_time(settled).await?;
        let settled_after = ended.elapsed();
        let cpu = cpu::used_between(&before, &cpu::processes());
        self.close(&sales).await?;
        let result = HttpRun::of(vouchers, &run, settled_after, &cpu)?;
        let accepted = result.accepted.per_second;
        stage.done(&format!("{accepted:.0} accepted a second"));
        Ok(result)
    }

    async fn ceiling(&self, calls_per_second: f64) -> anyhow::Result<Rate> {
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

    /// Each store alone, for a third of the time or so.
    async fn stores(&self) -> anyhow::Result<StoreRates> {
        let stage = Stage::begin("Kafka alone", 1);
        let kafka = kafka::measure(&self.stores.kafka.brokers, self.time() / 3).await?;
        stage.done(&format!(
            "{:.0} records a second written, {:.0} read",
            kafka.produced, kafka.consumed
        ));
        let stage = Stage::begin("PostgreSQL alone", 1);
        let copied_per_second =
            copy::measure(self.stores.database_url.expose(), self.time() / 3).await?;
        stage.done(&format!("{copied_per_second:.0} rows a second copied"));
        Ok(StoreRates {
            produced_per_second: kafka.produced,
            consumed_per_second: kafka.consumed,
            copied_per_second,
        })
    }

    /// Redis, and then Kafka, at this rate.
    async fn stores_evenly(&self, per_second: f64) -> anyhow::Result<StoreLatencies> {
        let time = self.time() / 3;
        let stage = Stage::begin("Redis and Kafka alone, evenly", 1);
        let latencies = StoreLatencies {
            reserve: self.ceiling.evenly(per_second, time).await?,
            produce: kafka::evenly(&self.stores.kafka, per_second, time).await?,
        };
        let StoreLatencies { reserve, produce } = latencies;
        stage.done(&format!(
            "99 of a hundred within {:.1} and {:.1} ms",
            reserve.p99_ms, produce.p99_ms
        ));
        Ok(latencies)
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

    fn time(&self) -> Duration {
        Duration::from_secs(self.options.seconds.into())
    }

    /// Refusals do not change: less time is enough.
    fn time_of_refusals(&self) -> Duration {
        self.time() / 3
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
