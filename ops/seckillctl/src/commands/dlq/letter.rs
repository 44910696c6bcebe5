//! Dead letters: what is in one, and which are meant.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::str::FromStr;

use clap::Args;
use seckill_domain::{Event, Offset, VoucherId};
use seckill_eventlog::{DEAD_LETTER_HEADERS, DecodeError, Record, decode_event};
use seckill_orderbook::LetterFate;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::commands::sale::parse_time;
use crate::decoded::{record_json, written_at};
use crate::failure::Failure;
use crate::log::Log;

/// How often a record was redriven.
pub(super) const REDRIVE_COUNT: &str = "seckill-redrive-count";

/// Where the record of a letter stood in the event topic: the letter's name.
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

/// Which letters. Filters narrow each other down.
#[derive(Debug, Clone, Args)]
pub(crate) struct Filter {
    /// Only those whose cause contains this text.
    #[arg(long, value_name = "TEXT")]
    cause: Option<String>,
    /// Only those of this sale, by their key or by their event.
    #[arg(long, value_name = "ID")]
    voucher: Option<VoucherId>,
    /// Only those that came at this moment, in RFC 3339, or later.
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

/// A dead letter.
#[derive(Debug)]
pub(super) struct Letter {
    /// As it stands in the dead-letter topic.
    pub(super) record: Record,
    pub(super) source: Source,
    pub(super) cause: String,
    /// How often its record was redriven before it came here again.
    pub(super) redrives: u32,
    pub(super) fate: Option<LetterFate>,
}

impl Letter {
    /// None when the headers don't say where the record stood: no projector wrote that.
    fn read(record: Record) -> Option<Self> {
        // The last of a name counts: the original's own headers come first.
        let header = |name: &str| {
            let value = record.headers.named(name).next_back();
            str::from_utf8(value??).ok()
        };
        let of_letter = |name: &str| header(&format!("{DEAD_LETTER_HEADERS}{name}"));
        let source = Source {
            partition: of_letter("partition")?.parse().ok()?,
            offset: Offset::new(of_letter("offset")?.parse().ok()?),
        };
        let cause = of_letter("message").unwrap_or_default().to_owned();
        let redrives = header(REDRIVE_COUNT).map_or(0, |n| n.parse().unwrap_or(u32::MAX));
        Some(Self {
            source,
            cause,
            redrives,
            fate: None,
            record,
        })
    }

    /// The event in it, if this build can read it, whatever its key and its partition were.
    pub(super) fn event(&self) -> Result<Event, DecodeError> {
        let payload = self.record.payload.as_deref();
        decode_event(payload.ok_or(DecodeError::NoPayload)?)
    }

    /// Its key as text, for people.
    pub(super) fn key(&self) -> String {
        let key = self.record.key.as_deref();
        key.map_or_else(|| "-".to_owned(), |k| k.escape_ascii().to_string())
    }

    fn is_of(&self, voucher: VoucherId) -> bool {
        let key = self.record.key.as_deref();
        key == Some(voucher.to_string().as_bytes())
            || self.event().is_ok_and(|event| event.voucher_id == voucher)
    }

    fn passes(&self, filter: &Filter) -> bool {
        let cause = filter.cause.as_ref();
        cause.is_none_or(|text| self.cause.contains(text.as_str()))
            && filter.voucher.is_none_or(|voucher| self.is_of(voucher))
    }

    /// Everything about it, its bytes as well.
    pub(super) fn json(&self) -> Value {
        let mut json = json!({
            "letter": self.source.to_string(),
            "cause": self.cause,
            "came_at": written_at(&self.record),
            "redrives": self.redrives,
            "fate": self.fate.map(LetterFate::as_str),
        });
        json["record"] = record_json(&self.record);
        json
    }
}

/// What was dealt with before, by source.
pub(super) type Handled = HashMap<(i32, Offset), LetterFate>;

/// The letters of `filter`, the oldest first, each source once; those in `named` only, unless that is
/// empty. What was dealt with is among them only if `with_handled`.
pub(super) async fn select(
    log: &Log,
    filter: &Filter,
    named: &[Source],
    handled: &Handled,
    with_handled: bool,
) -> Result<Vec<Letter>, Failure> {
    let topic = &log.topics.dead_letters;
    let held = log.extent(topic).await?;
    let held = log.between(topic, held, filter.since, None).await?;
    let mut records = log.scan(topic, held).await?;
    let mut letters = Vec::new();
    let mut seen = HashSet::new();
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    while letters.len() < limit
        && let Some(record) = records.next().await?
    {
        let Some(mut letter) = Letter::read(record) else {
            continue;
        };
        letter.fate = handled
            .get(&(letter.source.partition, letter.source.offset))
            .copied();
        let wanted = (named.is_empty() || named.contains(&letter.source))
            && (with_handled || letter.fate.is_none())
            && letter.passes(filter);
        // A projector that died after a letter and before its position writes it again.
        if wanted && seen.insert(letter.source) {
            letters.push(letter);
        }
    }
    match named.iter().find(|source| !seen.contains(source)) {
        Some(missing) if letters.len() < limit => Err(Failure::NotFound(format!(
            "there is no dead letter {missing}, or it was dealt with: `dlq list --all` has them all"
        ))),
        _ => Ok(letters),
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

    #[test]
    fn the_last_header_of_a_name_counts() {
        let headers = [
            ("__dlq.errors.partition", "9"),
            ("__dlq.errors.partition", "2"),
            ("__dlq.errors.offset", "7"),
            ("__dlq.errors.message", "no payload"),
            ("seckill-redrive-count", "2"),
        ];
        let record = |headers: &[(&str, &str)]| Record {
            partition: 0,
            offset: Offset::new(0),
            key: None,
            payload: None,
            headers: headers
                .iter()
                .map(|(name, value)| (*name, Some(value.as_bytes())))
                .collect(),
            timestamp_ms: None,
        };
        let letter = Letter::read(record(&headers)).unwrap();
        assert_eq!(letter.source.to_string(), "2/7");
        assert_eq!((letter.redrives, letter.cause.as_str()), (2, "no payload"));
        assert!(Letter::read(record(&headers[3..])).is_none());
    }
}
