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
    /// Make the topics that do not exist yet. Existing topics do not change.
    ///
    /// The event topic gets EVENT_PARTITIONS partitions. That number can never be changed, because the partition of
    /// every sale depends on it.
    Create {
        /// The number of copies of every record, each on another broker.
        #[arg(long, value_name = "COPIES", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..))]
        replication: i32,
    },
    /// Check that the topics exist, that the event topic has EVENT_PARTITIONS partitions, and that no setting could
    /// lose or refuse records.
    ///
    /// Each problem is printed with the command that solves it.
    Check,
    /// Show how far the fold and the effects are behind the log, in events and in seconds.
    ///
    /// The seconds are counted since the oldest event was written that the view has not reached.
    #[command(after_help = "Example: seckillctl topics lag --output json")]
    Lag,
    /// Plan to start a view from another offset. Only effects can be moved, and only back.
    Reset(reset::Arguments),
    /// Let a partition's view continue with another log than the one from which it was folded.
    ///
    /// For a topic that was deleted and made again, or a partition that was cut, if the lost records cannot be
    /// restored. The fold has stopped then, and `/readyz` of the projector shows `another-log`. Decisions of records
    /// that are lost stay in PostgreSQL. The partition's sales are loaded again.
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
    // Also check after making them, because topics that already existed may have other settings.
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
