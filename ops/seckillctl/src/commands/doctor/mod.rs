//! Checks the stores, their versions and their settings, and prints one table. Nothing is changed.

mod clocks;
mod kafka;
mod log;
mod postgresql;
mod redis;
mod registry;

use std::error::Error;
use std::iter::successors;
use std::time::Duration;

use anyhow::{Context, anyhow};
use seckill_orderbook::{Orderbook, OrderbookOptions};
use seckill_stock::{Stock, StockOptions};
use serde_json::json;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Output, Report, table};
use crate::settings::{Need, Settings};

/// How long to wait for a store that does not answer.
const PATIENCE: Duration = Duration::from_secs(15);
const DATABASE_PATIENCE: Duration = Duration::from_secs(5);

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    /// It works, but a crash could lose something.
    Risk,
    /// It cannot be checked without writing.
    Unknown,
    Wrong,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Risk => "risk",
            Self::Unknown => "unknown",
            Self::Wrong => "WRONG",
        }
    }
}

/// One row.
#[derive(Debug)]
struct Finding {
    store: &'static str,
    what: String,
    state: State,
    found: String,
    /// The command or the setting that solves the problem.
    mend: String,
}

/// The rows about one store.
#[derive(Debug)]
struct Findings {
    store: &'static str,
    rows: Vec<Finding>,
}

impl Findings {
    const fn of(store: &'static str) -> Self {
        Self {
            store,
            rows: Vec::new(),
        }
    }

    fn add(&mut self, state: State, what: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.rows.push(Finding {
            store: self.store,
            what: what.to_owned(),
            state,
            found: found.into(),
            mend: mend.into(),
        });
    }

    fn ok(&mut self, what: &str, found: impl Into<String>) {
        self.add(State::Ok, what, found, "");
    }

    fn wrong(&mut self, what: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.add(State::Wrong, what, found, mend);
    }

    /// `wrong` or a risk, unless `is_right`.
    fn judge(&mut self, is_right: bool, otherwise: State, what: &str, found: &str, mend: &str) {
        if is_right {
            self.ok(what, found);
        } else {
            self.add(otherwise, what, found, mend);
        }
    }
}

/// The connections to the stores.
struct Stores {
    log: Log,
    orderbook: Orderbook,
    stock: Stock,
    grace: Duration,
}

pub(crate) async fn run(settings: &Settings, output: Output) -> Result<Report, Failure> {
    let needs = [Need::Kafka, Need::Database, Need::Redis, Need::Grace];
    settings.check(&needs)?;
    let stores = Stores {
        log: Log::open(settings)?,
        orderbook: connect(settings)?,
        stock: Stock::new(StockOptions::new(settings.redis()?)).context("REDIS_URL")?,
        grace: settings.grace()?,
    };
    let (kafka, registry, log, redis, postgresql, clocks) = tokio::join!(
        within("kafka", kafka::look(&stores)),
        within("schema-registry", registry::look(&stores)),
        within("log", log::look(&stores)),
        within("redis", redis::look(&stores)),
        within("postgresql", postgresql::look(&stores)),
        within("clocks", clocks::look(&stores)),
    );
    let all: Vec<Finding> = [kafka, registry, redis, postgresql, log, clocks]
        .into_iter()
        .flat_map(|findings| findings.rows)
        .collect();
    let wrong = all.iter().filter(|row| row.state == State::Wrong).count();
    let report = report(&all);
    if wrong == 0 {
        return Ok(report);
    }
    let failure = anyhow!("{wrong} of {} are wrong: see MENDED BY", all.len());
    Err(report.print_with(output, failure))
}

fn connect(settings: &Settings) -> Result<Orderbook, Failure> {
    let orderbook = Orderbook::connect(&OrderbookOptions {
        database_url: settings.database_url()?,
        application_name: "seckillctl doctor".to_owned(),
        max_connections: 2,
        holds_connections: false,
        acquire_timeout: DATABASE_PATIENCE,
        statement_timeout: DATABASE_PATIENCE,
        idle_transaction_timeout: DATABASE_PATIENCE,
    });
    Ok(orderbook.context("DATABASE_URL")?)
}

async fn within(store: &'static str, look: impl Future<Output = Findings>) -> Findings {
    timeout(PATIENCE, look).await.unwrap_or_else(|_| {
        let mut findings = Findings::of(store);
        let found = format!("nothing within {} s", PATIENCE.as_secs());
        findings.wrong("answer", found, "look at its log, and at the network");
        findings
    })
}

fn report(all: &[Finding]) -> Report {
    let rows: Vec<_> = all
        .iter()
        .map(|row| {
            let [state, store] = [row.state.name(), row.store].map(str::to_owned);
            [
                state,
                store,
                row.what.clone(),
                row.found.clone(),
                row.mend.clone(),
            ]
        })
        .collect();
    let findings: Vec<_> = all
        .iter()
        .map(|row| {
            json!({
                "store": row.store,
                "what": row.what,
                "state": row.state.name().to_lowercase(),
                "found": row.found,
                "mended_by": row.mend,
            })
        })
        .collect();
    Report {
        text: table(["STATE", "STORE", "WHAT", "FOUND", "MENDED BY"], &rows),
        json: json!({ "findings": findings }),
    }
}

/// An error with its causes.
fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = successors(Some(error), |&error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    texts.join(": ")
}
