//! The command line of the oversell lab.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use futures_util::future::try_join_all;
use seckill_lab::lab::Stores;
use seckill_lab::machine::Machine;
use seckill_lab::report::{Report, RungReport};
use seckill_lab::rungs::{self, Rung};
use seckill_lab::scenario::{Load, Scenario};
use seckill_lab::{chart, render};
use seckill_testkit::{Postgres, Redis, workspace_root};

/// Runs the known ways to sell units that are few to buyers who are many, and says what breaks each.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the rungs on a PostgreSQL and a Redis of their own.
    Run(RunArgs),
    /// Writes docs/oversell-lab/README.md and throughput.svg from what `run --output` wrote.
    Render {
        /// What `run --output` wrote.
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Only these rungs.
    #[arg(long, num_args = 1.., value_name = "NAME")]
    only: Vec<String>,
    /// A load so small that all rungs are through in two minutes.
    #[arg(long)]
    quick: bool,
    /// Buyers in the load [default: 9000, quick 400].
    #[arg(long)]
    buyers: Option<usize>,
    /// Units on sale in the load [default: 3000, quick 200].
    #[arg(long)]
    stock: Option<usize>,
    /// Buyers at a time in the load, each with a connection [default: 32, quick 16].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=150))]
    concurrency: Option<u8>,
    /// Where to write the report, for `render`.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

impl RunArgs {
    fn load(&self) -> Load {
        let default = if self.quick {
            Load {
                stock: 200,
                buyers: 400,
                concurrency: 16,
                stop_after_s: 5,
            }
        } else {
            Load {
                stock: 3_000,
                buyers: 9_000,
                concurrency: 32,
                stop_after_s: 20,
            }
        };
        Load {
            stock: self.stock.unwrap_or(default.stock),
            buyers: self.buyers.unwrap_or(default.buyers),
            concurrency: self.concurrency.map_or(default.concurrency, usize::from),
            ..default
        }
    }

    fn rungs(&self) -> Result<Vec<Rung>> {
        let all = rungs::all();
        for name in &self.only {
            let known: Vec<&str> = all.iter().map(|rung| rung.card.name).collect();
            ensure!(
                known.contains(&name.as_str()),
                "no rung is called {name}; there are {}",
                known.join(", ")
            );
        }
        let is_wanted = |rung: &Rung| {
            self.only.is_empty() || self.only.iter().any(|name| name == rung.card.name)
        };
        Ok(all.into_iter().filter(is_wanted).collect())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().command {
        Command::Run(args) => run(&args).await,
        Command::Render { file } => write_page(&file),
    }
}

async fn run(args: &RunArgs) -> Result<()> {
    let (rungs, load) = (args.rungs()?, args.load());
    let redis = Redis::start()?;
    let postgres = Postgres::start()?;
    let database = postgres.fresh_database()?;
    let stores = Stores {
        database_url: database.url(),
        redis_url: redis.url(),
    };
    let mut report = Report {
        machine: Machine::describe(&stores).await?,
        load,
        rungs: Vec::new(),
    };
    let mut surprises = Vec::new();
    for rung in &rungs {
        let outcome = run_rung(rung, &stores, &load)
            .await
            .with_context(|| format!("rung {}", rung.card.name))?;
        print!("{}", render::summary(&outcome));
        surprises.extend(render::surprises(rung, &outcome));
        report.rungs.push(outcome);
    }
    if let Some(path) = &args.output {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(
        surprises.is_empty(),
        "not as their cards say:\n{}",
        surprises.join("\n")
    );
    Ok(())
}

/// The duels wait most of the time, so they share it; the load has the machine to itself.
async fn run_rung(rung: &Rung, stores: &Stores, load: &Load) -> Result<RungReport> {
    let duels = Scenario::DUELS.map(|scenario| rung.run(stores, scenario, load));
    let mut outcomes = try_join_all(duels).await?;
    outcomes.push(rung.run(stores, Scenario::Load, load).await?);
    Ok(RungReport {
        name: rung.card.name.to_owned(),
        outcomes,
    })
}

fn write_page(file: &PathBuf) -> Result<()> {
    let json = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let report: Report = serde_json::from_str(&json)
        .with_context(|| format!("{} is not what `run --output` writes", file.display()))?;
    let directory = workspace_root().join("docs/oversell-lab");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("README.md"), render::page(&report))?;
    fs::write(directory.join("throughput.svg"), chart::throughput(&report))?;
    println!("written: {}", directory.display());
    Ok(())
}
