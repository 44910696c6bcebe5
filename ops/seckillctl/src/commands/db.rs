//! The database.

use std::time::Duration;

use anyhow::Context;
use clap::Subcommand;
use seckill_orderbook::{Orderbook, OrderbookOptions};
use serde_json::json;

use crate::failure::Failure;
use crate::output::Report;
use crate::settings::Settings;

/// How long to wait for a database that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time-out of one statement. Statements on whole tables may take longer, up to a quarter of an hour.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// This is long, because a snapshot stays open while the log is read.
const IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// What to do with the database.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring the schema up to date. Does nothing if it is up to date.
    Migrate,
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    let Command::Migrate = command;
    let migrated = connect(settings)?.migrate().await;
    migrated.context("cannot migrate the database that DATABASE_URL names")?;
    Ok(Report {
        json: json!({ "migrated": true }),
        text: "the schema is up to date".to_owned(),
    })
}

/// The database of `DATABASE_URL`. A connection is made at the first query.
pub(crate) fn connect(settings: &Settings) -> Result<Orderbook, Failure> {
    connect_with(settings, 1)
}

/// The same, for a command that needs several connections.
pub(crate) fn connect_with(
    settings: &Settings,
    max_connections: u32,
) -> Result<Orderbook, Failure> {
    let orderbook = Orderbook::connect(&OrderbookOptions {
        database_url: settings.database_url()?,
        application_name: "seckillctl".to_owned(),
        max_connections,
        holds_connections: false,
        acquire_timeout: CONNECT_TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
        idle_transaction_timeout: IDLE_TRANSACTION_TIMEOUT,
    });
    Ok(orderbook.context("DATABASE_URL is not the URL of a PostgreSQL database")?)
}
