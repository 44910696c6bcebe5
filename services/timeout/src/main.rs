//! The process: reads settings, starts logs, handles signals. Its exit code is 0 after SIGTERM, 1 after a failure, and
//! 2 when its settings cannot be used.

use std::process::ExitCode;

use seckill_service::check_config::{self, Asked};
use seckill_service::settings::Source;
use seckill_service::{failpoints, panics, shutdown};
use seckill_timeout::config::Config;
use seckill_timeout::startup;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    panics::end_the_process(seckill_eventlog::catches_panics);
    let source = Source::load();
    let config = match Config::load(&source) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("seckill-timeout: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match check_config::asked() {
        Some(asked) => check(asked, &source, &config).await,
        None => run(&config).await.map(|()| shutdown::exit_code()),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("seckill-timeout: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn check(asked: Asked, source: &Source, config: &Config) -> anyhow::Result<ExitCode> {
    let health = check_config::health();
    if asked.tries_stores {
        startup::open(config, &health).await?;
    }
    Ok(check_config::print(asked.form, source, &health)?)
}

async fn run(config: &Config) -> anyhow::Result<()> {
    config.logs.start().map_err(anyhow::Error::msg)?;
    failpoints::install().map_err(anyhow::Error::msg)?;
    tracing::info!(?config, "starting");
    startup::run(config, &shutdown::on_signal()?).await
}
