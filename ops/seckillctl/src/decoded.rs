//! Records and events as JSON, and bytes as a hex dump.

use seckill_domain::{Epoch, Event, EventBody, KeyHash, Money, Timestamp};
use seckill_eventlog::{Record, decode_event};
use serde_json::{Map, Value, json};

use crate::output::moment;

/// An event's fields, under the names of its schema.
pub(crate) fn event_json(event: &Event) -> Value {
    let mut fields = Map::new();
    let head = json!({
        "type": event.body.name(),
        "event_id": event.event_id.to_string(),
        "voucher_id": event.voucher_id.get(),
        "occurred_at": moment(event.occurred_at),
    });
    for part in [head, body_json(&event.body)] {
        if let Value::Object(part) = part {
            fields.extend(part);
        }
    }
    fields.into()
}

fn body_json(body: &EventBody) -> Value {
    match body {
        EventBody::SaleScheduled(e) => json!({
            "title": e.terms.title.as_str(),
            "price_cents": e.terms.price.cents(),
            "currency": e.terms.price.currency().as_str(),
            "stock": e.terms.stock,
            "max_quantity": e.terms.max_quantity,
            "opens_at": moment(e.terms.opens_at),
            "closes_at": moment(e.terms.closes_at),
            "hold_seconds": e.terms.hold_seconds,
            "requires_sale_token": e.terms.requires_sale_token,
        }),
        EventBody::StockAdjusted(e) => json!({
            "delta": e.delta,
            "reason": e.reason.as_str(),
            "epoch": e.epoch.map(Epoch::get),
        }),
        EventBody::SaleClosed => json!({}),
        EventBody::SaleReloaded(e) => json!({
            "previous_epoch": e.previous.get(),
            "epoch": e.epoch.get(),
            "nonce": e.nonce.to_string(),
            "first": e.first,
        }),
        EventBody::SeckillReserved(e) => json!({
            "order_id": e.order_id.to_string(),
            "user_id": e.user_id.get(),
            "quantity": e.quantity,
            "price_cents": e.price.cents(),
            "currency": e.price.currency().as_str(),
            "pay_by": moment(e.pay_by),
            "epoch": e.epoch.get(),
            "key_hash": e.key_hash.as_ref().map(KeyHash::to_string),
        }),
        EventBody::OrderPaid(e) => json!({
            "order_id": e.order_id.to_string(),
            "payment_id": e.payment_id.as_str(),
            "amount_cents": Money::cents(e.amount),
            "currency": e.amount.currency().as_str(),
            "paid_at": moment(e.paid_at),
        }),
        EventBody::OrderCancelled(e) => json!({
            "order_id": e.order_id.to_string(),
            "user_id": e.user_id.get(),
        }),
        EventBody::OrderExpired(e) => json!({
            "order_id": e.order_id.to_string(),
            "pay_by": moment(e.pay_by),
        }),
        EventBody::RecordSkipped(e) => json!({
            "partition": e.partition,
            "offset": e.offset.get(),
            "reason": e.reason.as_str(),
            "actor": e.actor.as_str(),
        }),
    }
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
