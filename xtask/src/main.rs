//! `cargo xtask`: everything a developer does with this repository, on a machine without containers.

mod build;
mod daemon;
mod daily;
mod demo;
mod install;
mod local;
mod settings;
mod stack;
mod step;
mod test;

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use seckill_testkit::mail;

use crate::build::Build;
use crate::test::Long;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Runs, tests and measures the whole stack on this machine."
)]
struct Cli {
    /// Only say what is missing, install nothing
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the stack needs: Redis, PostgreSQL, Java, Maven, a C compiler, Python, Chromium, Kafka's jars
    Install,
    /// Start the stack and the services (release builds), and wait until all are ready
    Up {
        /// Delete the data of earlier runs first
        #[arg(long)]
        fresh: bool,
    },
    /// Stop what `up` started; the data stays
    Down,
    /// Take mail over SMTP and keep it as files: `up` runs this for itself
    #[command(hide = true)]
    MailSink {
        /// The loopback port
        #[arg(long)]
        port: u16,
        /// Where the files go
        #[arg(long)]
        directory: PathBuf,
    },
    /// Run a whole sale against a fresh stack, on the tests' build, and check every invariant
    Demo {
        /// Stop the stack afterwards, however the demo ended
        #[arg(long)]
        once: bool,
        /// With limits: 100 orders a second are let in, unless RATE_LIMIT_GLOBAL_PER_SECOND says otherwise
        #[arg(long)]
        protected: bool,
        /// Arguments of `seckill-demo`, after `--`
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Measure throughput of the release build on a fresh stack; arguments go to `seckill-bench`
    Bench {
        /// Arguments of `seckill-bench`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Format check, lints and all tests, on a Kafka and a PostgreSQL that they share
    Test {
        /// The long tests too
        #[arg(long)]
        long: bool,
        /// As many of the long tests as fit into a quarter of an hour too, and another one of the rest each day
        #[arg(long, conflicts_with_all = ["long", "filters"])]
        daily: bool,
        /// Run only the tests whose names contain one of these
        filters: Vec<String>,
    },
}

fn main() -> ExitCode {
    run(Cli::parse()).unwrap_or_else(|error| {
        eprintln!("error: {error}");
        for cause in error.chain().skip(1) {
            eprintln!("  because: {cause}");
        }
        ExitCode::FAILURE
    })
}

fn run(cli: Cli) -> Result<ExitCode> {
    if !matches!(cli.command, Command::Down | Command::MailSink { .. }) {
        install::run(cli.no_install)?;
    }
    match cli.command {
        Command::Install => println!("everything is installed"),
        Command::Up { fresh } => local::up(Build::Release, fresh, &settings::of_caller())?,
        Command::Down => local::down()?,
        Command::MailSink { port, directory } => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
            mail::serve(&listener, &directory);
        }
        Command::Demo {
            once,
            protected,
            arguments,
        } => return demo::demo(once, protected, &arguments),
        Command::Bench { arguments } => return demo::bench(&arguments),
        Command::Test {
            long,
            daily,
            filters,
        } => {
            let long = match (long, daily) {
                (true, _) => Long::All,
                (false, true) => Long::Daily,
                (false, false) => Long::None,
            };
            test::run(long, &filters)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
