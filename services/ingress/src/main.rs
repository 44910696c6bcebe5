//! The ingress as a process. Exits with 2 when its settings cannot be used, with 1 when it fails.

use std::process::ExitCode;

use anyhow::{Context, anyhow};
use seckill_ingress::config::Config;
use seckill_ingress::metrics;
use seckill_ingress::startup::{self, Application};
use seckill_service::check_config::{self, Asked};
use seckill_service::ops::Ops;
use seckill_service::settings::Source;
use seckill_service::{failpoints, panics, shutdown, traces};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    panics::end_the_process(seckill_eventlog::catches_panics);
    let source = Source::load();
    let config = match Config::load(&source) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("seckill-ingress: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match check_config::asked() {
        Some(asked) => check(asked, &source, &config),
        None => run(config).map(|()| shutdown::exit_code()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("seckill-ingress ends: {error:#}");
            eprintln!("seckill-ingress: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn check(asked: Asked, source: &Source, config: &Config) -> anyhow::Result<ExitCode> {
    let health = check_config::health();
    if asked.tries_stores {
        startup::check(config, &health).await?;
    }
    Ok(check_config::print(asked.form, source, &health)?)
}

/// The listeners have threads of their own, one a core. Half as many decide behind them: more would only take
/// the cores from those, and each other's work.
fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.workers.div_ceil(2))
        .enable_all()
        .build()?;
    runtime.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    config.logs.start().map_err(|error| anyhow!(error))?;
    failpoints::install().map_err(|error| anyhow!(error))?;
    tracing::info!(?config, "starting");
    let ops = Ops::install("ingress", &metrics::all()).map_err(|error| anyhow!(error))?;
    config
        .traces
        .start("ingress")
        .map_err(|error| anyhow!(error))?;
    let stop = shutdown::on_signal().context("cannot listen for signals")?;
    Application::build(config, ops)?.run(stop).await?;
    traces::finish().await;
    Ok(())
}
