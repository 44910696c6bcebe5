//! `docs/asyncapi.json` describes the topics to consumers. It is made here, from the topics' names
//! and the schemas that the code reads and writes, and has to be what is committed:
//! `SECKILL_WRITE=1 cargo test -p seckill-eventlog --test asyncapi` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use seckill_eventlog::{DEAD_LETTER_HEADERS, TRACEPARENT, Topics};
use seckill_testkit::{check_written_json, workspace_root};
use serde_json::{Map, Value, json};

const OUTCOMES: [&str; 3] = ["OrderOutcome", "RefundDue", "SaleOutcome"];

/// Name and schema of every record, in the order of their names.
fn schemas() -> Vec<(String, Value)> {
    let files = fs::read_dir(workspace_root().join("schemas")).unwrap();
    let mut schemas: Vec<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "avsc"))
        .map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap())
        .map(|schema| (schema["name"].as_str().unwrap().to_owned(), schema))
        .collect();
    schemas.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(schemas.len() >= 11, "{schemas:?}");
    schemas
}

fn headers() -> Value {
    json!({
        "type": "object",
        "description": "CloudEvents 1.0 in binary mode, and the W3C trace context.",
        "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "content-type", TRACEPARENT],
        "properties": {
            "ce_specversion": { "const": "1.0" },
            "ce_id": { "type": "string", "format": "uuid", "description": "The record's event_id: a repetition has the same." },
            "ce_type": { "type": "string", "pattern": "^seckill\\.v1\\.[A-Za-z]+$" },
            "ce_source": { "type": "string", "description": "The service that wrote it." },
            "ce_time": { "type": "string", "format": "date-time" },
            "content-type": { "const": "application/avro" },
            TRACEPARENT: { "type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$" },
        },
    })
}

fn message(name: &str, schema: &Value) -> Value {
    let key = if name == "OrderOutcome" || name == "RefundDue" {
        "The order id."
    } else if name == "SaleOutcome" {
        "The voucher id, in decimal."
    } else {
        "The voucher id, in decimal; it decides the partition, by murmur2."
    };
    json!({
        "name": name,
        "title": name,
        "summary": schema["doc"],
        "contentType": "application/avro",
        "headers": { "$ref": "#/components/schemas/headers" },
        "payload": {
            "schemaFormat": "application/vnd.apache.avro+json;version=1.9.0",
            "schema": schema,
        },
        "bindings": { "kafka": { "key": { "type": "string", "description": key } } },
    })
}

fn channel(address: &str, description: &str, messages: &[&String]) -> Value {
    let reference = |name: &&String| {
        let path = format!("#/components/messages/{name}");
        ((*name).clone(), json!({ "$ref": path }))
    };
    let messages: Map<String, Value> = messages.iter().map(reference).collect();
    json!({ "address": address, "description": description, "messages": messages })
}

fn dead_letters(address: &str) -> Value {
    let header = |name: &str| format!("{DEAD_LETTER_HEADERS}{name}");
    let text = json!({ "type": "string" });
    let mut headers: Map<String, Value> = ["topic", "partition", "offset", "group", "message"]
        .map(|name| (header(name), text.clone()))
        .into_iter()
        .collect();
    for part in ["payload", "key", "headers"] {
        let what = format!(
            "Only where the record was too large for this topic: its {part} had to be left out, and how much that is."
        );
        let omitted = json!({ "type": "string", "pattern": "^omitted: ", "description": what });
        headers.insert(header(part), omitted);
    }
    json!({
        "address": address,
        "description": "Records that no fold takes, malformed or skipped by an operator's decision: key, payload and headers untouched, and where it stood and why it was refused in headers of its own. Of a record that is too large for this topic a header says what was left out: the record itself stays in the event topic.",
        "messages": { "deadLetter": {
            "name": "deadLetter",
            "headers": { "type": "object", "properties": headers },
            "payload": { "description": "Any bytes." },
        } },
    })
}

fn document() -> Value {
    let (topics, schemas) = (Topics::new(""), schemas());
    let names = schemas.iter().map(|(name, _)| name);
    let (outcomes, events): (Vec<_>, Vec<_>) = names.partition(|n| OUTCOMES.contains(&n.as_str()));
    let messages: Map<String, Value> = schemas
        .iter()
        .map(|(name, schema)| (name.clone(), message(name, schema)))
        .collect();
    let receive = |channel: &str, summary: &str| {
        let channel = json!({ "$ref": format!("#/channels/{channel}") });
        json!({ "action": "receive", "channel": channel, "summary": summary })
    };
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Flash-sale order pipeline",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Payloads are Avro in single-object encoding; where a schema registry is configured, in Confluent's framing. Every change of a schema is compatible in both directions with every version before.",
        },
        "defaultContentType": "application/avro",
        "channels": {
            "orderEvents": channel(&topics.events, "Every fact, one partition a voucher, kept for ever: the truth of which everything else is a view.", &events),
            "orderOutcomes": channel(&topics.outcomes, "What was decided. It may be repeated: keep the highest version of an order.", &outcomes),
            "orderStates": channel(&topics.states, "Of every order what was decided of it last: the record of the outcomes, compacted, for whoever begins with today's truth. It may be repeated: keep the highest version of an order.", &[&"OrderOutcome".to_owned()]),
            "deadLetters": dead_letters(&topics.dead_letters),
        },
        "operations": {
            "followOutcomes": receive("orderOutcomes", "For consumers that do not want to know the rule."),
            "learnStates": receive("orderStates", "For consumers that begin: all of it, and then the outcomes."),
            "followEvents": receive("orderEvents", "For consumers that fold the log themselves."),
            "watchDeadLetters": receive("deadLetters", "For operators; seckillctl dlq reads and redrives them."),
        },
        "components": { "messages": messages, "schemas": { "headers": headers() } },
    })
}

#[test]
fn the_document_says_what_the_code_does() {
    let command = "cargo test -p seckill-eventlog --test asyncapi";
    check_written_json("docs/asyncapi.json", &document(), command).unwrap();
}
