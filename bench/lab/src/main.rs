//! The command line of the oversell lab.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use seckill_bench::machine::Machine;
use seckill_bench::redis_server;
use seckill_lab::disk::Disk;
use seckill_lab::plan::Load;
use seckill_lab::report::{Report, RungReport};
use seckill_lab::rungs::{self, Rung};
use seckill_lab::session::Servers;
use seckill_lab::worker::Job;
use seckill_lab::{chart, pipeline, render};
use seckill_testkit::workspace_root;
use tokio::process::Command as Program;

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
    /// Writes docs/oversell-lab/README.md, README.zh-CN.md and throughput.svg from what `run --output` wrote.
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
    /// Buyers in the load [default: 3000, quick 400].
    #[arg(long)]
    buyers: Option<usize>,
    /// Units on sale in the load [default: 1000, quick 200].
    #[arg(long)]
    stock: Option<usize>,
    /// Buyers at a time in the load, each with a connection [default: 32, quick 16].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=150))]
    concurrency: Option<u8>,
    /// Seconds after which no new buyer comes in the load [default: 5].
    #[arg(long)]
    seconds: Option<u64>,
    /// Only the verdicts, or only the speeds; the other part stays in the output file as it is.
    #[arg(long)]
    part: Option<Part>,
    /// How often each speed is measured, by turns [default: 3, quick 1].
    #[arg(long)]
    rounds: Option<usize>,
    /// Asks for all verdicts so often, and fails unless each run gives the same.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Where to write the report, with the last verdicts, for `render`.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

/// What a run is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What breaks what; beside other work, too.
    Verdicts,
    /// How fast; on a quiet machine.
    Speeds,
}

impl RunArgs {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 })
    }

    /// With the part that is not run, as it is in the output file.
    fn report_so_far(&self, rungs: &[Rung]) -> Result<Report> {
        let mut report = Report {
            machine: None,
            load: self.load(),
            rungs: Vec::new(),
        };
        if let (Some(_), Some(path)) = (self.part, &self.output)
            && path.exists()
        {
            report = read_report(path)?;
        }
        let known = std::mem::take(&mut report.rungs);
        let of = |rung: &Rung| {
            let name = rung.card.name;
            let known = known.iter().find(|known| known.name == name).cloned();
            known.unwrap_or_else(|| RungReport::new(name))
        };
        report.rungs = rungs.iter().map(of).collect();
        Ok(report)
    }

    fn load(&self) -> Load {
        let default = if self.quick {
            Load {
                stock: 200,
                buyers: 400,
                concurrency: 16,
                stop_after_s: 5,
                pause_ms: 500,
                steady_s: 2,
            }
        } else {
            Load {
                stock: 1_000,
                buyers: 3_000,
                concurrency: 32,
                stop_after_s: 5,
                pause_ms: 3_000,
                steady_s: 5,
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
    let mut report = args.report_so_far(&rungs)?;
    let mut surprises = Vec::new();
    if args.part != Some(Part::Speeds) {
        surprises = ask_for_verdicts(args, &rungs, &load, &mut report).await?;
    }
    if args.part != Some(Part::Verdicts) {
        let servers = Servers::start(Disk::Synced, std::env::current_exe()?).await?;
        let stores = servers.stores();
        let mut redis = redis_server::connect(&stores.redis_urls[0].as_str().into()).await?;
        report.machine = Some(Machine::describe(&stores.database_url, &mut redis).await?);
        report.load = load;
        let (rounds, reports) = (args.rounds(), &mut report.rungs);
        servers.speeds(&rungs, &load, rounds, reports).await?;
        for (rung, report) in rungs.iter().zip(reports) {
            print!("{}", render::summary(&report.name, &report.loads));
            print!("{}", render::summary(&report.name, &report.steady));
            surprises.extend(render::surprising_loads(rung, report));
        }
    }
    if let Some(path) = &args.output {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(path, json).with_context(|| format!("writing {}", path.display()))?;
    }
    ensure!(
        surprises.is_empty(),
        "not as their cards say, or not twice the same:\n{}",
        surprises.join("\n")
    );
    Ok(())
}

/// All verdicts, as often as asked for: where they are not as the cards say, or not twice the same.
async fn ask_for_verdicts(
    args: &RunArgs,
    rungs: &[Rung],
    load: &Load,
    report: &mut Report,
) -> Result<Vec<String>> {
    let servers = Servers::start(Disk::Unused, std::env::current_exe()?).await?;
    let mut surprises = Vec::new();
    let mut first: Option<Verdicts> = None;
    for round in 1..=args.repeat {
        let start = Instant::now();
        servers.verdicts(rungs, load, &mut report.rungs).await?;
        for (rung, report) in rungs.iter().zip(&report.rungs) {
            surprises.extend(render::surprises(rung, report));
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("run {round} of {}: {seconds:.0} s", args.repeat);
        let verdicts = verdicts(rungs, report);
        match &first {
            Some(first) => surprises.extend(differences(first, &verdicts, round)),
            None => first = Some(verdicts),
        }
    }
    Ok(surprises)
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

/// By rung and scenario; without those that depend on timing.
type Verdicts = BTreeMap<(String, &'static str), &'static str>;

fn verdicts(rungs: &[Rung], report: &Report) -> Verdicts {
    let mut verdicts = Verdicts::new();
    for (rung, report) in rungs.iter().zip(&report.rungs) {
        for outcome in &report.outcomes {
            let scenario = outcome.scenario;
            if scenario.expected(&rung.card.expected).is_some() {
                let key = (report.name.clone(), scenario.label());
                verdicts.insert(key, outcome.verdict.label());
            }
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

fn read_report(file: &Path) -> Result<Report> {
    let json = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&json)
        .with_context(|| format!("{} is not what `run --output` writes", file.display()))
}

fn write_page(file: &Path) -> Result<()> {
    let report = read_report(file)?;
    let directory = workspace_root().join("docs/oversell-lab");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("README.md"), render::page(&report))?;
    let chinese = directory.join("README.zh-CN.md");
    fs::write(chinese, render::chinese_page(&report))?;
    fs::write(directory.join("throughput.svg"), chart::throughput(&report))?;
    println!("written: {}", directory.display());
    Ok(())
}
