//! `seckill-demo`: a whole sale against the running stack, and every promise checked.

use std::process::ExitCode;

use clap::Parser;
use seckill_bench::demo::{self, DemoOptions};
use seckill_bench::environment::Environment;
use seckill_telemetry::settings::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sells a flash sale to a crowd on the running stack and checks every promise afterwards.
///
/// The stack is described by the environment that `cargo xtask up` writes. Exit status: 0 when all
/// promises were kept, 1 when not or when the demo could not be run, 2 for wrong flags.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: DemoOptions,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let environment = Environment::load(&Source::load()?)?;
    let kept = demo::run(&environment, &arguments.options).await?;
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
