//! Records and events as JSON, for people: one reader for the operators' commands and pages.

use seckill_domain::{Event, Timestamp};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::wire::fields::{Field, event_fields};
use crate::wire::record::Record;

/// An event's fields, under the names of its schema.
#[must_use]
pub fn event_json(event: &Event) -> Value {
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

/// A record with what is in it: `payload_hex` and `headers` are its bytes, `event` what they say, and `error` why they
/// say nothing. Of each part at most `part_bytes` bytes are shown, and `payload_bytes` says how many there are.
#[must_use]
pub fn record_json(record: &Record, part_bytes: usize) -> Value {
    let (event, error) = match record.content() {
        Ok(event) => (event_json(&event), Value::Null),
        Err(error) => (Value::Null, error.to_string().into()),
    };
    let cut = |bytes: &'_ [u8]| bytes[..bytes.len().min(part_bytes)].to_vec();
    let (key, payload) = (record.key.as_deref(), record.payload.as_deref());
    let headers = record.headers.iter().map(|header| {
        let (name, value) = header?;
        Some((cut(name.as_bytes()), value.map(cut)))
    });
    let headers: Vec<_> = headers.map(header_json).collect();
    json!({
        "partition": record.partition,
        "offset": record.offset.get(),
        "written_at": written_at(record),
        "key": key.map(|key| String::from_utf8_lossy(&cut(key)).into_owned()),
        "key_hex": key.map(|key| hex::encode(cut(key))),
        "headers": headers,
        "payload_bytes": payload.map(<[u8]>::len),
        "payload_hex": payload.map(|payload| hex::encode(cut(payload))),
        "event": event,
        "error": error,
    })
}

/// Name and value.
fn header_json(header: Option<(Vec<u8>, Option<Vec<u8>>)>) -> Value {
    let Some((name, value)) = header else {
        return json!({ "error": "its name is not UTF-8" });
    };
    let name = String::from_utf8_lossy(&name);
    match value.as_deref().map(str::from_utf8) {
        None => json!({ "name": name, "value": null }),
        Some(Ok(text)) => json!({ "name": name, "value": text }),
        Some(Err(_)) => json!({ "name": name, "value_hex": value.map(hex::encode) }),
    }
}

/// When a record was written, by the log's own timestamp.
#[must_use]
pub fn written_at(record: &Record) -> Option<String> {
    let millis = record.timestamp_ms?;
    Some(moment(Timestamp::new(millis.checked_mul(1000)?).ok()?))
}

/// In RFC 3339 and UTC.
///
/// # Panics
/// Never: RFC 3339 can write each of them.
#[must_use]
pub fn moment(at: Timestamp) -> String {
    let nanos = i128::from(at.as_micros()) * 1000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .expect("from 1970 to 9999")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::headers::Headers;
    use seckill_domain::Offset;

    #[test]
    fn a_moment_is_printed_in_utc_with_its_microseconds() {
        let at = Timestamp::from_micros(1_700_000_000_000_001);
        assert_eq!(moment(at), "2023-11-14T22:13:20.000001Z");
        assert_eq!(moment(Timestamp::MAX), "9999-12-31T23:59:59.999999Z");
    }

    #[test]
    fn what_is_long_is_cut_and_says_how_long_it_is() {
        let record = Record {
            key: Some(b"17".to_vec()),
            payload: Some(vec![7; 1_000]),
            headers: Headers::default().with("why", Some(&[b'x'; 1_000])),
            ..Record::without_content(3, Offset::new(9))
        };
        let json = record_json(&record, 4);
        assert_eq!(
            (&json["key"], &json["payload_hex"]),
            (&json!("17"), &json!("07070707"))
        );
        assert_eq!(json["payload_bytes"], 1_000);
        assert_eq!(json["headers"], json!([{ "name": "why", "value": "xxxx" }]));
        assert!(json["error"].is_string(), "{json}");
        assert_eq!(
            record_json(&record, 5_000)["payload_hex"],
            "07".repeat(1_000)
        );
    }
}
