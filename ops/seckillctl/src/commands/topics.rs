//! The Kafka topics.

use anyhow::Context;
use clap::Subcommand;
use seckill_eventlog::{Topics, check_topics, create_topics};
use serde_json::json;

use crate::commands::{accept, lag, reset};
use crate::failure::Failure;
use crate::output::Report;
use crate::settings::Settings;

/// What to do with the topics.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the topics that are not there yet; those that are stay as they are.
    ///
    /// The event topic gets EVENT_PARTITIONS partitions. That number is for ever: every sale's place
    /// in the log depends on it.
    Create {
        /// Copies of every record, on as many brokers.
        #[arg(long, value_name = "COPIES", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        replication: i32,
    },
    /// Check that the topics are there, that the event topic has EVENT_PARTITIONS partitions, and that no
    /// setting could lose records or refuse them.
    ///
    /// What is wrong is named, with the command that mends it.
    Check,
    /// Show how far the fold and the effects are behind the log, in events and in seconds.
    ///
    /// Seconds are those since the oldest event was written that is still to come.
    #[command(after_help = "Example: seckillctl topics lag --output json")]
    Lag,
    /// Plan to start a view from another offset; only effects can be moved, and only back.
    Reset(reset::Arguments),
    /// Have a partition's view go on with a log that is not the one it was folded from.
    ///
    /// For a topic that was deleted and made anew, or a partition that was cut, where the lost records are gone for
    /// good: the fold stands still, and `/readyz` of the projector says `another-log`. What was decided by records
    /// that the log no longer has stays as PostgreSQL has it. The partition's sales are loaded anew.
    Accept(accept::Arguments),
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    match &command {
        Command::Lag => return lag::run(settings).await,
        Command::Reset(arguments) => return reset::run(arguments, settings).await,
        Command::Accept(arguments) => return accept::run(arguments, settings).await,
        Command::Create { .. } | Command::Check => {}
    }
    let kafka = settings.kafka()?;
    let client = kafka.client("seckillctl");
    let topics = kafka.topics();
    let context = || format!("KAFKA_BROKERS={}", kafka.brokers);
    if let Command::Create { replication } = command {
        create_topics(&client, &topics, kafka.partitions, replication)
            .await
            .with_context(context)?;
    }
    // Also after making them: topics that were there already may be others.
    check_topics(&client, &topics, kafka.partitions)
        .await
        .with_context(context)?;
    Ok(report(&topics, kafka.partitions))
}

fn report(topics: &Topics, partitions: i32) -> Report {
    let Topics {
        events,
        outcomes,
        states,
        dead_letters,
    } = topics;
    Report {
        text: format!(
            "the topics are there:\n  {events} ({partitions} partitions)\n  {outcomes}\n  {states}\n  \
             {dead_letters}"
        ),
        json: json!({
            "events": events,
            "outcomes": outcomes,
            "states": states,
            "dead_letters": dead_letters,
            "partitions": partitions,
        }),
    }
}
