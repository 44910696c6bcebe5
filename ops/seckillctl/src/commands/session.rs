//! Sessions of buyers.

use std::time::Duration;

use anyhow::Context;
use clap::{Args, Subcommand};
use seckill_domain::{Timestamp, UserId};
use seckill_orderbook::EndedSessions;
use serde_json::json;
use time::OffsetDateTime;

use crate::act::Act;
use crate::commands::db::connect;
use crate::failure::Failure;
use crate::output::Report;
use crate::settings::Settings;

/// Longer than any token of a sign-in is valid.
const REMEMBERED: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// What to do with sessions. All instances apply a change within seconds.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// End all sessions of a user that have begun so far: none of their tokens is valid any more.
    #[command(after_help = "Example:
  seckillctl session end --user 7 --execute --reason 'phone was stolen'")]
    End(End),
}

/// Whose sessions to end.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// The id of the user.
    #[arg(long, value_name = "ID")]
    user: UserId,
    #[command(flatten)]
    act: Act,
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    let Command::End(End { user, act }) = command;
    let orderbook = connect(settings)?;
    let phrase = format!("end all sessions of {user}");
    let warrant = act.warrant(&phrase, 1)?;
    if let Some(warrant) = &warrant {
        let now = OffsetDateTime::now_utc();
        let ended = EndedSessions {
            user_id: user,
            up_to: timestamp(now),
            expires_at: timestamp(now + REMEMBERED),
        };
        let noted = orderbook.end_sessions(ended, Some(warrant.entry(1))).await;
        noted.context("cannot end the sessions")?;
    }
    let closing = act.closing(warrant.is_some());
    Ok(Report {
        json: json!({ "user_id": user.get(), "executed": warrant.is_some() }),
        text: format!("{phrase}{closing}"),
    })
}

fn timestamp(at: OffsetDateTime) -> Timestamp {
    let micros = at.unix_timestamp_nanos() / 1_000;
    Timestamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}
