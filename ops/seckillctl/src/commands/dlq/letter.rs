//! Dead letters: their content, and how some of them are selected.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use seckill_domain::{Offset, VoucherId};
use seckill_eventlog::{Record, record_json, written_at};
use seckill_orderbook::{Orderbook, SkipFate, SkippedRecord};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::sale::parse_time;
use crate::failure::Failure;
use crate::log::Log;

/// The place of a letter's record in the event topic. It identifies the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(super) partition: i32,
    pub(super) offset: Offset,
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a dead letter is PARTITION/OFFSET, as `dlq list` names it";
        let (partition, offset) = text.split_once('/').ok_or(EXPECTED)?;
        let (Ok(partition), Ok(offset)) = (partition.parse::<u16>(), offset.parse::<u64>()) else {
            return Err(EXPECTED);
        };
        Ok(Self {
            partition: i32::from(partition),
            offset: Offset::new(i64::try_from(offset).map_err(|_| EXPECTED)?),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset.get())
    }
}

/// Selects letters. A letter has to fit all filters that are given.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Only letters whose cause contains this text.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only letters of this sale, by their key or by their event.
    #[arg(long, value_name = "ID")]
    voucher: Option<VoucherId>,
    /// Only letters that were written at this time, in RFC 3339, or later.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<OffsetDateTime>,
    /// The most letters, oldest first.
    #[arg(long, value_name = "LETTERS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

impl Filter {
    /// All letters.
    pub(super) const fn none() -> Self {
        Self {
            cause: None,
            voucher: None,
            since: None,
            limit: u32::MAX,
        }
    }
}

/// A record that the fold has passed over.
#[derive(Debug)]
pub(super) struct Letter {
    /// The record in the event topic.
    pub(super) record: Record,
    pub(super) source: Source,
    pub(super) cause: String,
    pub(super) fate: Option<SkipFate>,
}

impl Letter {
    fn of(row: SkippedRecord, record: Record) -> Self {
        let cause = if row.in_log {
            row.cause
        } else {
            format!("to be {}; not in the log yet: repeat `dlq skip`", row.cause)
        };
        Self {
            source: Source {
                partition: row.partition,
                offset: row.offset,
            },
            cause,
            fate: row.fate,
            record,
        }
    }

    /// Its key as text, for people.
    pub(super) fn key(&self) -> String {
        let key = self.record.key.as_deref();
        key.map_or_else(|| "-".to_owned(), |k| k.escape_ascii().to_string())
    }

    fn is_of(&self, voucher: VoucherId) -> bool {
        let key = self.record.key.as_deref();
        key == Some(voucher.to_string().as_bytes())
            || self
                .record
                .content()
                .is_ok_and(|event| event.voucher_id == voucher)
    }

    fn passes(&self, filter: &Filter) -> bool {
        let since = filter.since.map(|at| at.unix_timestamp_nanos() / 1_000_000);
        let written = self.record.timestamp_ms.map(i128::from);
        filter.voucher.is_none_or(|voucher| self.is_of(voucher))
            && since.is_none_or(|since| written.is_some_and(|at| at >= since))
    }

    /// All data about it, with its bytes.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "letter": self.source.to_string(),
            "cause": self.cause,
            "came_at": written_at(&self.record),
            "redrives": self.record.redrives(),
            "fate": self.fate.map(SkipFate::as_str),
        });
        json["record"] = record_json(&self.record, usize::MAX);
        json
    }
}

/// The records that fit `filter`, by partition and offset. If `named` is not empty, only those in it. Records that were
/// redriven or discarded are included only with `with_handled`.
pub(super) async fn select(
    log: &Log,
    orderbook: &Orderbook,
    filter: &Filter,
    named: &[Source],
    with_handled: bool,
) -> Result<Vec<Letter>, Failure> {
    let skipped = orderbook.skipped_records(&log.topics.events).await;
    let skipped = skipped.context(
        "cannot read which records were skipped; is the schema up to date? (`db migrate`)",
    )?;
    let mut rows: BTreeMap<i32, Vec<SkippedRecord>> = BTreeMap::new();
    for row in skipped {
        let source = Source {
            partition: row.partition,
            offset: row.offset,
        };
        let cause = filter.cause.as_ref();
        let wanted = (named.is_empty() || named.contains(&source))
            && (with_handled || row.fate.is_none())
            && cause.is_none_or(|text| row.cause.contains(text.as_str()));
        if wanted {
            rows.entry(row.partition).or_default().push(row);
        }
    }
    let mut letters = Vec::new();
    let reader = log.record_reader()?;
    for (partition, rows) in rows {
        let offsets = rows.iter().map(|row| row.offset).collect();
        let records = reader.at(partition, offsets).await;
        let records = records.with_context(|| log.cannot_read(&log.topics.events))?;
        let mut records: HashMap<Offset, Record> = records
            .into_iter()
            .map(|record| (record.offset, record))
            .collect();
        let letter = |row: SkippedRecord| {
            let gone = Record::without_content(partition, row.offset);
            let record = records.remove(&row.offset).unwrap_or(gone);
            Letter::of(row, record)
        };
        letters.extend(rows.into_iter().map(letter));
    }
    letters.retain(|letter| letter.passes(filter));
    letters.sort_by_key(|letter| letter.record.timestamp_ms);
    letters.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    let found: HashSet<Source> = letters.iter().map(|letter| letter.source).collect();
    match named.iter().find(|source| !found.contains(source)) {
        Some(missing) => Err(Failure::NotFound(format!(
            "there is no dead letter {missing}, or it was dealt with: `dlq list --all` has them all"
        ))),
        None => Ok(letters),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_partition_and_offset() {
        let source: Source = "3/1042".parse().unwrap();
        assert_eq!((source.partition, source.offset.get()), (3, 1042));
        assert_eq!(source.to_string(), "3/1042");
        for text in [
            "",
            "3",
            "3/",
            "/1",
            "-1/2",
            "1/-2",
            "a/b",
            "1/9223372036854775808",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text:?}");
        }
    }
}
