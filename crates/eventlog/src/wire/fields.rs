//! The fields of a record under the names of its schema, for people and for programs that print them.

use apache_avro::types::Value;
use seckill_domain::{Event, Timestamp};

use crate::wire::events::encode_event;
use crate::wire::schemas::Framed;

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// The record has none.
    Null,
    /// A truth value.
    Flag(bool),
    /// A whole number.
    Number(i64),
    /// A text, or a UUID as text.
    Text(String),
    /// A moment.
    Moment(Timestamp),
}

/// The fields of an event's record with their names, in the order of its schema.
#[must_use]
pub(crate) fn event_fields(event: &Event) -> Vec<(String, Field)> {
    let message = encode_event(event);
    let record = Framed::parse(&message).and_then(Framed::read_value);
    match record.expect("what was just written can be read") {
        Value::Record(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, Field::from(value)))
            .collect(),
        _ => Vec::new(),
    }
}

impl From<Value> for Field {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Union(_, value) => Self::from(*value),
            Value::Boolean(flag) => Self::Flag(flag),
            Value::Int(number) => Self::Number(number.into()),
            Value::Long(number) => Self::Number(number),
            Value::TimestampMicros(micros) => Self::Moment(Timestamp::from_micros(micros)),
            Value::String(text) => Self::Text(text),
            Value::Uuid(uuid) => Self::Text(uuid.to_string()),
            // Of no schema here.
            other => Self::Text(format!("{other:?}")),
        }
    }
}
