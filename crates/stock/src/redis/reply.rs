//! Reads the scripts' replies. Each reply is a flat array whose first item is the kind of answer.

use std::str::FromStr;

use redis::Value;
use seckill_domain::{Epoch, KeyHash, Offset, Timestamp};

use crate::redis::error::StockError;

/// What stands for "none" in arguments and stored text.
pub(crate) const NONE: &str = "-";

/// A script's reply. Its items are read one after the other.
pub(crate) struct Reply {
    answer: String,
    items: std::vec::IntoIter<Value>,
}

impl Reply {
    pub(crate) fn new(value: Value) -> Result<Self, StockError> {
        let Value::Array(items) = value else {
            return Err(StockError::Protocol(format!("not an array: {value:?}")));
        };
        let mut reply = Self {
            answer: String::new(),
            items: items.into_iter(),
        };
        reply.answer = reply.text()?;
        Ok(reply)
    }

    /// The kind of answer: the first item.
    pub(crate) fn answer(&self) -> &str {
        &self.answer
    }

    /// Whether the sale may not be used over this connection.
    pub(crate) fn is_not_served(&self) -> bool {
        matches!(
            self.answer(),
            "absent" | "other_log" | "fence" | "shut" | "torn"
        )
    }

    /// Whether the sale was loaded under another fence than this connection's.
    pub(crate) fn is_foreign(&self) -> bool {
        self.answer() == "fence"
    }

    /// The error for an answer that this call should never get.
    pub(crate) fn unexpected(&self) -> StockError {
        unexpected(self.answer())
    }

    /// The next item as text, or none at the end.
    pub(crate) fn next_text(&mut self) -> Result<Option<String>, StockError> {
        match self.items.next() {
            None | Some(Value::Nil) => Ok(None),
            Some(Value::BulkString(bytes)) => String::from_utf8(bytes)
                .map(Some)
                .map_err(|_| StockError::Protocol("not UTF-8".to_owned())),
            Some(other) => Err(StockError::Protocol(format!("not a text: {other:?}"))),
        }
    }

    /// The next item as text.
    pub(crate) fn text(&mut self) -> Result<String, StockError> {
        self.next_text()?
            .ok_or_else(|| StockError::Protocol("the reply is too short".to_owned()))
    }

    /// The next item, parsed.
    pub(crate) fn parse<T: FromStr>(&mut self) -> Result<T, StockError> {
        parse(&self.text()?)
    }

    pub(crate) fn timestamp(&mut self) -> Result<Timestamp, StockError> {
        timestamp(&self.text()?)
    }

    pub(crate) fn epoch(&mut self) -> Result<Epoch, StockError> {
        self.parse().map(Epoch::new)
    }

    pub(crate) fn offset(&mut self) -> Result<Offset, StockError> {
        self.parse().map(Offset::new)
    }
}

/// The error for an answer that this call should never get.
pub(crate) fn unexpected(answer: &str) -> StockError {
    StockError::Protocol(format!("unexpected answer {answer:?}"))
}

pub(crate) fn parse<T: FromStr>(text: &str) -> Result<T, StockError> {
    text.parse()
        .map_err(|_| StockError::Protocol(format!("cannot read {text:?}")))
}

/// Microseconds since the Unix epoch.
pub(crate) fn timestamp(text: &str) -> Result<Timestamp, StockError> {
    Timestamp::new(parse(text)?).map_err(|error| StockError::Protocol(format!("{text}: {error}")))
}

/// `-` or a value.
pub(crate) fn parse_optional<T: FromStr>(text: &str) -> Result<Option<T>, StockError> {
    if text == NONE {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

pub(crate) fn key_hash_text(key_hash: Option<KeyHash>) -> String {
    key_hash.map_or_else(|| NONE.to_owned(), |hash| hash.to_string())
}
