//! Records and events as JSON, and bytes as a hex dump.

use seckill_domain::{Event, Timestamp};
use seckill_eventlog::{Field, Record, decode_event, event_fields};
use serde_json::{Map, Value, json};

use crate::output::moment;

/// An event's fields, under the names of its schema.
pub(crate) fn event_json(event: &Event) -> Value {
    let mut fields = Map::new();
    fields.insert("type".to_owned(), event.body.name().into());
    fields.extend(event_fields(event).into_iter().map(|(name, field)| {
        let value = match field {
            Field::Null => Value::Null,
            Field::Flag(flag) => flag.into(),
            Field::Number(number) => number.into(),
            Field::Text(text) => text.into(),
            Field::Moment(at) => moment(at).into(),
        };
        (name, value)
    }));
    fields.into()
}

/// A record with everything that is in it: `payload_hex` and `headers` are its bytes, `event` what
/// they say, and `error` why they say nothing.
pub(crate) fn record_json(record: &Record) -> Value {
    let decoded = decode_event(record.payload.as_deref().unwrap_or_default());
    let (event, error) = match decoded {
        Ok(event) => (event_json(&event), Value::Null),
        Err(error) => (Value::Null, error.to_string().into()),
    };
    let headers: Vec<_> = record.headers.iter().map(header_json).collect();
    json!({
        "partition": record.partition,
        "offset": record.offset.get(),
        "written_at": written_at(record),
        "key": record.key.as_deref().map(String::from_utf8_lossy),
        "key_hex": record.key.as_deref().map(hex::encode),
        "headers": headers,
        "payload_hex": record.payload.as_deref().map(hex::encode),
        "event": event,
        "error": error,
    })
}

fn header_json(header: Option<(&str, Option<&[u8]>)>) -> Value {
    let Some((name, value)) = header else {
        return json!({ "error": "its name is not UTF-8" });
    };
    match value.map(str::from_utf8) {
        None => json!({ "name": name, "value": null }),
        Some(Ok(text)) => json!({ "name": name, "value": text }),
        Some(Err(_)) => json!({ "name": name, "value_hex": value.map(hex::encode) }),
    }
}

/// When a record was written, by the log's own timestamp.
pub(crate) fn written_at(record: &Record) -> Option<String> {
    let millis = record.timestamp_ms?;
    Some(moment(Timestamp::new(millis.checked_mul(1000)?).ok()?))
}

/// 16 bytes a line: their place, in hexadecimal, and as ASCII.
pub(crate) fn hex_dump(bytes: &[u8]) -> String {
    let line = |(row, bytes): (usize, &[u8])| {
        let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let visible = |b: &u8| {
            if b.is_ascii_graphic() || *b == b' ' {
                char::from(*b)
            } else {
                '.'
            }
        };
        let ascii: String = bytes.iter().map(visible).collect();
        format!("{:08x}  {:<47}  {ascii}", row * 16, hex.join(" "))
    };
    let lines: Vec<_> = bytes.chunks(16).enumerate().map(line).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_has_the_place_the_digits_and_the_characters() {
        let dump = hex_dump(b"0123456789abcdef\x00z");
        let lines: Vec<_> = dump.lines().collect();
        assert_eq!(
            lines[0],
            "00000000  30 31 32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef"
        );
        assert!(lines[1].starts_with("00000010  00 7a  ") && lines[1].ends_with("  .z"));
        assert_eq!(hex_dump(&[]), "");
    }
}
