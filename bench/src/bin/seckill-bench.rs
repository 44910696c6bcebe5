//! `seckill-bench`: accepted orders a second, beside what Redis alone does.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use seckill_bench::environment::Environment;
use seckill_bench::expiry::{self, ExpiryOptions};
use seckill_bench::throughput::{self, ThroughputOptions};
use seckill_service::settings::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures how many orders a second the running stack accepts over HTTP, by turns with
/// redis-benchmark on the same script and the same Redis, Kafka's own performance tests and COPY.
/// `cargo xtask install` brings these programs.
///
/// The stack is described by the environment that `cargo xtask up` writes. What was ordered stays in
/// the stack's stores: `cargo xtask up --fresh` begins anew. Exit status: 0 when it was measured, 1
/// when it could not be, 2 for wrong flags or settings.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    options: ThroughputOptions,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What else can be measured.
#[derive(Debug, Subcommand)]
enum Instead {
    /// Orders that nobody pays, and streams that wait for their end: what they cost while nothing happens,
    /// and how late their end is told
    Expiry(ExpiryOptions),
}

// One thread: the cores belong to the system under load, and no task has to wake another core up.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = match Environment::load(&Source::load()) {
        Ok(environment) => environment,
        Err(error) => {
            eprintln!("seckill-bench: {error}");
            return ExitCode::from(2);
        }
    };
    let measured = match &arguments.instead {
        None => throughput::run(&environment, &arguments.options).await,
        Some(Instead::Expiry(options)) => expiry::run(&environment, options).await,
    };
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seckill-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
