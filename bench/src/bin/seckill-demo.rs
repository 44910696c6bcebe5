//! `seckill-demo`: a whole sale against the running stack, and every promise checked.

use std::process::ExitCode;

use clap::Parser;
use seckill_bench::demo::{self, DemoOptions};
use seckill_bench::environment::Environment;
use seckill_service::settings::Source;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sells a flash sale to a crowd on the running stack and checks every promise afterwards.
///
/// The stack is described by the environment that `cargo xtask up` writes. Exit status: 0 when all
/// promises were kept, 1 when not or when the demo could not be run to its end, 2 for wrong flags or
/// settings.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: DemoOptions,
}

// One thread: the cores belong to the system under load, and no task has to wake another core up.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let environment = match Environment::load(&Source::load()) {
        Ok(environment) => environment,
        Err(error) => {
            eprintln!("seckill-demo: {error}");
            return ExitCode::from(2);
        }
    };
    if let Err(error) = arguments.options.check() {
        eprintln!("seckill-demo: {error}");
        return ExitCode::from(2);
    }
    match demo::run(&environment, &arguments.options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("seckill-demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}
