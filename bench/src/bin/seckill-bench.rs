//! `seckill-bench`: accepted orders a second, beside what Redis alone does.

use clap::Parser;
use seckill_bench::environment::Environment;
use seckill_bench::throughput::{self, ThroughputOptions};
use seckill_telemetry::settings::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures how many orders a second the running stack accepts over HTTP, by turns with
/// redis-benchmark on the same script and the same Redis.
///
/// The stack is described by the environment that `cargo xtask up` writes. What was ordered stays in
/// the stack's stores: `cargo xtask up --fresh` begins anew.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: ThroughputOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let environment = Environment::load(&Source::load()?)?;
    throughput::run(&environment, &arguments.options).await
}
