//! The command line of the oversell lab.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};
use futures_util::future::try_join_all;
use seckill_lab::lab::{LabWorld, Stores};
use seckill_lab::machine::Machine;
use seckill_lab::pipeline::{self, Pipeline};
use seckill_lab::report::{Report, RungReport};
use seckill_lab::rungs::{self, Rung};
use seckill_lab::scenario::{Load, Scenario};
use seckill_lab::worker::Job;
use seckill_lab::{chart, render};
use seckill_testkit::{Postgres, Redis, workspace_root};
use tokio::process::Command as Program;
use tokio::task::spawn_blocking;

/// As many as the rung that uses most.
const REDIS_SERVERS: usize = 5;

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
    /// One buyer in a process of its own, as `run` starts it.
    #[command(hide = true)]
    Worker {
        /// What to do, in JSON.
        job: String,
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
    /// Seconds after which no new buyer comes in the load [default: 20, quick 5].
    #[arg(long)]
    seconds: Option<u64>,
    /// Runs everything so often, and fails unless each run gives the same verdicts.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Where to write the (last) report, for `render`.
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
                pause_ms: 500,
            }
        } else {
            Load {
                stock: 3_000,
                buyers: 9_000,
                concurrency: 32,
                stop_after_s: 20,
                pause_ms: 3_000,
            }
        };
        Load {
            stock: self.stock.unwrap_or(default.stock),
            buyers: self.buyers.unwrap_or(default.buyers),
            concurrency: self.concurrency.map_or(default.concurrency, usize::from),
            stop_after_s: self.seconds.unwrap_or(default.stop_after_s),
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
        Command::Worker { job } => {
            let told = work(&job).await;
            if let Err(error) = &told {
                eprintln!("worker: {error:#}");
            }
            // A thread still waits at stdin.
            process::exit(i32::from(told.is_err()))
        }
    }
}

async fn work(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job).context("the job")?;
    let all = rungs::all();
    let rung = all.iter().find(|rung| rung.card.name == job.rung);
    rung.context("no such rung")?.work(job.site).await
}

async fn run(args: &RunArgs) -> Result<()> {
    let (rungs, load) = (args.rungs()?, args.load());
    if rungs.iter().any(Rung::needs_services) {
        build_services().await?;
    }
    let servers = (0..REDIS_SERVERS).map(|_| spawn_blocking(Redis::start));
    let servers: Vec<Redis> = try_join_all(servers)
        .await?
        .into_iter()
        .collect::<Result<_>>()?;
    let postgres = Postgres::start()?;
    let database = postgres.fresh_database()?;
    let world = LabWorld {
        stores: Stores {
            database_url: database.url(),
            redis_urls: servers.iter().map(Redis::url).collect(),
        },
        program: std::env::current_exe()?,
        pipeline: None,
    };
    let machine = Machine::describe(&world.stores).await?;
    let mut surprises = Vec::new();
    let mut first: Option<Verdicts> = None;
    for round in 1..=args.repeat {
        let start = Instant::now();
        let report = Report {
            machine: machine.clone(),
            load,
            rungs: run_rungs(&rungs, &world, &load).await?,
        };
        println!(
            "run {round} of {}: {:.0} s",
            args.repeat,
            start.elapsed().as_secs_f64()
        );
        for (rung, outcome) in rungs.iter().zip(&report.rungs) {
            surprises.extend(render::surprises(rung, outcome));
        }
        let verdicts = verdicts(&rungs, &report);
        match &first {
            Some(first) => surprises.extend(differences(first, &verdicts, round)),
            None => first = Some(verdicts),
        }
        if let Some(path) = &args.output {
            let json = serde_json::to_string_pretty(&report)?;
            fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
        }
    }
    ensure!(
        surprises.is_empty(),
        "not as their cards say, or not twice the same:\n{}",
        surprises.join("\n")
    );
    Ok(())
}

/// So that what is measured is what is in the source. Who starts this program by hand has built what it
/// needs, or is told.
async fn build_services() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        return Ok(());
    };
    let mut build = Program::new(cargo);
    build.args(["build", "--locked"]).stdin(Stdio::null());
    build.current_dir(workspace_root());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    for package in pipeline::PACKAGES {
        build.args(["-p", package]);
    }
    let status = build.status().await.context("starting cargo")?;
    ensure!(status.success(), "the services were not built: {build:?}");
    Ok(())
}

async fn run_rungs(rungs: &[Rung], world: &LabWorld, load: &Load) -> Result<Vec<RungReport>> {
    let mut reports = Vec::new();
    for rung in rungs {
        let report = run_rung(rung, world, load)
            .await
            .with_context(|| format!("rung {}", rung.card.name))?;
        print!("{}", render::summary(&report));
        reports.push(report);
    }
    Ok(reports)
}

/// The duels wait most of the time, so they share it; the load has the machine to itself.
async fn run_rung(rung: &Rung, world: &LabWorld, load: &Load) -> Result<RungReport> {
    let duels = Scenario::DUELS
        .into_iter()
        .filter(|scenario| scenario.concerns(&rung.card.expected));
    let mut outcomes = Vec::new();
    if rung.needs_services() {
        let pipeline = Arc::new(Pipeline::start().await?);
        let world = LabWorld {
            stores: pipeline.stores().clone(),
            pipeline: Some(pipeline),
            ..world.clone()
        };
        for scenario in duels.chain([Scenario::Load]) {
            outcomes.push(rung.run(&world, scenario, load).await?);
        }
    } else {
        outcomes = try_join_all(duels.map(|scenario| rung.run(world, scenario, load))).await?;
        outcomes.push(rung.run(world, Scenario::Load, load).await?);
    }
    Ok(RungReport {
        name: rung.card.name.to_owned(),
        outcomes,
    })
}

/// By rung and scenario; of a load only whether it sold too much, the rest is a matter of speed.
type Verdicts = BTreeMap<(String, &'static str), &'static str>;

fn verdicts(rungs: &[Rung], report: &Report) -> Verdicts {
    let mut verdicts = Verdicts::new();
    for (rung, report) in rungs.iter().zip(&report.rungs) {
        for outcome in &report.outcomes {
            let verdict = match outcome.scenario {
                Scenario::Load if outcome.oversold > 0 => "oversells",
                Scenario::Load => "does not oversell",
                scenario if scenario.expected(&rung.card.expected).is_none() => continue,
                _ => outcome.verdict.label(),
            };
            verdicts.insert((report.name.clone(), outcome.scenario.label()), verdict);
        }
    }
    verdicts
}

fn differences(first: &Verdicts, other: &Verdicts, round: u32) -> Vec<String> {
    let pairs = first.iter().zip(other);
    let different = pairs.filter(|(a, b)| a != b);
    different
        .map(|(((rung, scenario), a), (_, b))| {
            format!("{rung} in {scenario}: {a} in run 1, {b} in run {round}")
        })
        .collect()
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
