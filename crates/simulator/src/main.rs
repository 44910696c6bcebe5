//! `seckill-simulator --seeds 10000` runs 10,000 histories and reports whether a rule was broken.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use seckill_simulator::{EVIDENCE, Guards, Mode, REDUNDANT, search, simulate, trace};

/// Runs random histories of one sale against the protocol. Exits with 1 when a rule was broken.
#[derive(Debug, Parser)]
struct Arguments {
    /// The number of histories.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// The Redis servers of the simulation.
    #[arg(long, value_enum, default_value_t = Servers::Single)]
    mode: Servers,
    /// Switches a guard off.
    #[arg(long, value_name = "GUARD")]
    without: Vec<String>,
    /// For each guard, shows a history that breaks a rule without it.
    #[arg(long)]
    guards: bool,
    /// If the history of a guard no longer breaks a rule, tries this many others.
    #[arg(long, value_name = "SEEDS", requires = "guards", default_value_t = 0)]
    search: u64,
    /// Runs this seed alone and prints its steps.
    #[arg(long, value_name = "SEED")]
    trace: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Servers {
    Single,
    Rough,
    Late,
    Torn,
    Crowd,
    Pair,
    Sentinel,
}

#[allow(clippy::print_stdout, reason = "its output")]
fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mode = match arguments.mode {
        Servers::Single => Mode::Single,
        Servers::Rough => Mode::Rough,
        Servers::Late => Mode::Late,
        Servers::Torn => Mode::Torn,
        Servers::Crowd => Mode::Crowd,
        Servers::Pair => Mode::Pair,
        Servers::Sentinel => Mode::Sentinel,
    };
    let without: Vec<&str> = arguments.without.iter().map(String::as_str).collect();
    let guards = Guards::without(&without).with_context(|| {
        format!(
            "guards are: {}",
            Guards::names().collect::<Vec<_>>().join(", ")
        )
    })?;
    if arguments.guards {
        return Ok(exit_code(show_guards(arguments.start, arguments.search)));
    }
    if let Some(seed) = arguments.trace {
        let outcome = trace(seed, mode, guards);
        println!("{outcome:?}");
        return Ok(exit_code(outcome.is_ok()));
    }
    let started = Instant::now();
    let (mut promised, mut loads, mut from_memory) = (0, 0, 0);
    let mut broken = BTreeMap::<String, Vec<u64>>::new();
    for seed in arguments.start..arguments.start + arguments.seeds {
        match simulate(seed, mode, guards) {
            Ok(report) => {
                promised += report.promised;
                loads += report.loads;
                from_memory += report.refused_from_memory;
            }
            Err(violation) => broken.entry(violation.0).or_default().push(seed),
        }
    }
    print!(
        "seeds {} promised {promised} loads {loads} refused from memory {from_memory}",
        arguments.seeds
    );
    print!(" in {:.1} s", started.elapsed().as_secs_f64());
    for (rule, seeds) in &broken {
        let first = &seeds[..seeds.len().min(4)];
        print!("; {rule}: {} (seeds {first:?})", seeds.len());
    }
    println!(
        "{}",
        if broken.is_empty() {
            ": no rule was broken"
        } else {
            ""
        }
    );
    Ok(exit_code(broken.is_empty()))
}

/// Whether every guard has a history that breaks a rule without it.
#[allow(clippy::print_stdout, reason = "its output")]
fn show_guards(start: u64, more: u64) -> bool {
    let mut caught = 0;
    for noted in EVIDENCE {
        let shown = match noted.check() {
            Ok(violation) => Ok((*noted, violation)),
            Err(why) => search(*noted, start..start + more).ok_or(why),
        };
        let off = match noted.behind {
            [] => noted.guard.to_owned(),
            behind => format!("{} (behind {})", noted.guard, behind.join(", ")),
        };
        match shown {
            Ok((found, violation)) => {
                caught += 1;
                println!("{off:56} {:?} {:>7}  {violation}", found.mode, found.seed);
            }
            Err(why) => println!("{off:56} NOT CAUGHT  seed {}: {why}", noted.seed),
        }
    }
    for (guard, why) in REDUNDANT {
        println!("{guard:56} redundant: {why}");
    }
    let redundant = REDUNDANT.len();
    println!(
        "guards caught {caught}/{}, redundant {redundant}",
        EVIDENCE.len()
    );
    caught == EVIDENCE.len()
}

fn exit_code(good: bool) -> ExitCode {
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
