//! Records that the fold has skipped, or for which it waits until an operator decides.

mod discard;
mod letter;
mod redrive;
mod skip;

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use seckill_eventlog::{event_json, written_at};
use seckill_orderbook::{Orderbook, SkipFate};

use self::letter::{Filter, Letter, Source, select};
use crate::act::Act;
use crate::commands::db::connect;
use crate::decoded::hex_dump;
use crate::failure::Failure;
use crate::log::Log;
use crate::output::{Report, fields, printable, table};
use crate::settings::{Need, Settings};

/// A longer cause is cut in the list. `show` prints all of it.
const CAUSE_MAX_CHARS: usize = 100;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the letters that were neither redriven nor discarded, the oldest first.
    #[command(after_help = "Example: seckillctl dlq list --cause 'unknown schema' --limit 20")]
    List {
        #[command(flatten)]
        filter: Filter,
        /// Also list letters that were redriven or discarded.
        #[arg(long)]
        all: bool,
    },
    /// Show everything about a letter: its headers, and its event or its bytes.
    Show {
        /// The letter, with its name from the list.
        #[arg(value_name = "PARTITION/OFFSET")]
        letter: Source,
    },
    /// Write letters that can be decoded now into the event topic again, under the key of their sale.
    ///
    /// The bytes do not change. A record that was redriven and skipped again three times is not written again.
    #[command(
        after_help = "Example: seckillctl dlq redrive --voucher 17 --execute --reason 'schema 8 is out'"
    )]
    Redrive {
        #[command(flatten)]
        selection: Selection,
        /// The most records a second.
        #[arg(long, value_name = "RECORDS", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        per_second: u32,
        #[command(flatten)]
        act: Act,
    },
    /// Decide that every fold skips the record at which a fold has stopped, permanently.
    ///
    /// Only for a record of a schema that this version does not know, and that no version to be rolled out
    /// can read. The decision becomes an event of the log. Can be repeated.
    #[command(
        after_help = "Example: seckillctl dlq skip 3/1042 --execute --reason 'written by a test, ticket 4711'"
    )]
    Skip {
        /// Partition and offset in the event topic, as `/readyz` of the projector names them.
        #[arg(value_name = "PARTITION/OFFSET")]
        record: Source,
        #[command(flatten)]
        act: Act,
    },
    /// Export letters to a file and discard them: they are no longer listed.
    ///
    /// Kafka cannot delete single records: the letters stay in the topic.
    #[command(
        after_help = "Example: seckillctl dlq discard 3/1042 --export bad.jsonl --execute --reason 'a load test'"
    )]
    Discard {
        #[command(flatten)]
        selection: Selection,
        /// A new file for the letters: one JSON value on each line, with bytes in hexadecimal digits.
        #[arg(long, value_name = "FILE")]
        export: PathBuf,
        #[command(flatten)]
        act: Act,
    },
}

/// Which letters to act on: at least one letter or filter has to be given.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Letters, with their names from the list.
    #[arg(value_name = "PARTITION/OFFSET", required_unless_present_any = ["cause", "voucher", "since"])]
    letters: Vec<Source>,
    #[command(flatten)]
    filter: Filter,
}

/// The connections and settings of these commands.
struct Desk {
    log: Log,
    orderbook: Orderbook,
}

pub(crate) async fn run(command: Command, settings: &Settings) -> Result<Report, Failure> {
    settings.check(&[Need::Kafka, Need::Database])?;
    let desk = Desk {
        log: Log::open(settings)?,
        orderbook: connect(settings)?,
    };
    match command {
        Command::List { filter, all } => {
            let letters = select(&desk.log, &desk.orderbook, &filter, &[], all).await?;
            Ok(list(&letters))
        }
        Command::Show { letter } => desk.show(letter).await,
        Command::Redrive {
            selection,
            per_second,
            act,
        } => redrive::run(&desk, &selection, per_second, &act).await,
        Command::Skip { record, act } => skip::run(&desk, record, &act).await,
        Command::Discard {
            selection,
            export,
            act,
        } => discard::run(&desk, &selection, &export, &act).await,
    }
}

impl Desk {
    /// The selected letters that were neither redriven nor discarded.
    async fn selected(&self, selection: &Selection) -> Result<Vec<Letter>, Failure> {
        let Selection { letters, filter } = selection;
        select(&self.log, &self.orderbook, filter, letters, false).await
    }

    async fn show(&self, source: Source) -> Result<Report, Failure> {
        let filter = Filter::none();
        let letters = select(&self.log, &self.orderbook, &filter, &[source], true).await?;
        let letter = letters.first();
        let letter = letter.context("a letter that was found has gone")?;
        Ok(Report {
            text: text(letter),
            json: letter.json(),
        })
    }
}

fn fate(letter: &Letter) -> String {
    letter.fate.map_or("-", SkipFate::as_str).to_owned()
}

fn list(letters: &[Letter]) -> Report {
    let cells = |letter: &Letter| {
        [
            letter.source.to_string(),
            written_at(&letter.record).unwrap_or_else(|| "-".to_owned()),
            letter.key(),
            letter.record.redrives().to_string(),
            fate(letter),
            letter.cause.chars().take(CAUSE_MAX_CHARS).collect(),
        ]
    };
    let rows: Vec<_> = letters.iter().map(cells).collect();
    let headers = ["LETTER", "CAME", "KEY", "REDRIVES", "FATE", "CAUSE"];
    Report {
        text: table(headers, &rows),
        json: letters.iter().map(Letter::json).collect(),
    }
}

fn header_line(header: Option<(&str, Option<&[u8]>)>) -> String {
    let Some((name, value)) = header else {
        return "  (a header whose name is not UTF-8)".to_owned();
    };
    let value = value.map_or_else(|| "null".to_owned(), |v| v.escape_ascii().to_string());
    format!("  {}: {value}", printable(name))
}

fn text(letter: &Letter) -> String {
    let head = fields(&[
        ("letter", letter.source.to_string()),
        ("cause", letter.cause.clone()),
        (
            "came",
            written_at(&letter.record).unwrap_or_else(|| "-".to_owned()),
        ),
        ("key", letter.key()),
        ("redrives", letter.record.redrives().to_string()),
        ("fate", fate(letter)),
    ]);
    let headers: Vec<_> = letter.record.headers.iter().map(header_line).collect();
    let payload = letter.record.payload.as_deref().unwrap_or_default();
    let body = match letter.record.content() {
        Ok(event) => format!("event\n{:#}", event_json(&event)),
        Err(error) => format!(
            "{} bytes that do not decode: {error}\n{}",
            payload.len(),
            hex_dump(payload)
        ),
    };
    format!("{head}\nheaders\n{}\n{body}", headers.join("\n"))
}
