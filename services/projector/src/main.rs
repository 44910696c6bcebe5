//! The projector's process.

use std::process::ExitCode;

use mimalloc::MiMalloc;
use seckill_projector::config::Config;
use seckill_projector::startup;
use seckill_telemetry::settings::Source;
use seckill_telemetry::{failpoints, panics, shutdown};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    panics::end_the_process(seckill_eventlog::catches_panics);
    let config = match Config::load(&Source::load()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    match run(config).await {
        Ok(()) => shutdown::exit_code(),
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the projector ends");
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> anyhow::Result<()> {
    config.logs.start().map_err(anyhow::Error::msg)?;
    failpoints::install().map_err(anyhow::Error::msg)?;
    tracing::info!(?config, "starting");
    startup::run(config, shutdown::on_signal()?).await
}
