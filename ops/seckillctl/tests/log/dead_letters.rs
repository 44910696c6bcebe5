//! `dlq`

use seckill_domain::{EventBody, Offset};
use seckill_eventlog::{Record, encode_event};
use serde_json::Value;

use crate::harness::{CliWorld, Ran, event, scheduled, voucher};

const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "mended", "--actor", "kim"];

/// A record of partition 0.
fn record(key: &str, payload: Vec<u8>, headers: &[(&str, &str)]) -> Record {
    Record {
        partition: 0,
        offset: Offset::new(0),
        key: Some(key.as_bytes().to_vec()),
        payload: Some(payload),
        headers: headers
            .iter()
            .map(|(name, value)| (*name, Some(value.as_bytes())))
            .collect(),
        timestamp_ms: None,
    }
}

/// Bytes that say nothing (0/0, 0/3), a sale under another's key (0/1), and a closing under a key that is
/// no sale's, which came back three times (0/2), all passed over by the fold.
async fn world() -> CliWorld {
    let world = CliWorld::new(4).await;
    let sale = encode_event(&scheduled(voucher(17)));
    let closed = encode_event(&event(voucher(18), EventBody::SaleClosed));
    let garbage = || b"garbage \x00\xff".to_vec();
    for record in [
        record("17", garbage(), &[]),
        record("99", sale, &[("ce_id", "an id")]),
        record("18b", closed, &[("seckill-redrive-count", "3")]),
        record("20", garbage(), &[]),
    ] {
        world.write_record(&record).await;
    }
    world.fold().await;
    world
}

async fn listed(world: &CliWorld, filters: &[&str]) -> Vec<String> {
    let letters = world.json(&[&["dlq", "list"], filters].concat()).await;
    let letters = letters.as_array().unwrap().iter();
    letters
        .map(|l| l["letter"].as_str().unwrap().to_owned())
        .collect()
}

async fn run(world: &CliWorld, command: &[&str], more: &[&str]) -> Ran {
    world.run(&[&["dlq"], command, more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_found_and_shown() {
    let world = world().await;
    assert_eq!(listed(&world, &[]).await, ["0/0", "0/1", "0/2", "0/3"]);
    assert_eq!(
        listed(&world, &["--cause", "framing"]).await,
        ["0/0", "0/3"]
    );
    assert_eq!(listed(&world, &["--voucher", "17"]).await, ["0/0", "0/1"]);
    assert_eq!(listed(&world, &["--limit", "2"]).await, ["0/0", "0/1"]);
    let future = ["--since", "2100-01-01T00:00:00Z"];
    assert!(listed(&world, &future).await.is_empty());

    let garbage = run(&world, &["show", "0/0"], &[]).await.stdout;
    let dump = "00000000  67 61 72 62 61 67 65 20 00 ff";
    assert!(garbage.contains(dump), "{garbage}");
    assert!(garbage.contains("begins no known framing"), "{garbage}");
    let sale = world.json(&["dlq", "show", "0/1"]).await;
    assert_eq!(sale["record"]["event"]["title"], "Night train");
    assert_eq!(run(&world, &["show", "0/9"], &[]).await.code, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_decodes_is_redriven_and_once() {
    let world = world().await;
    let events = &world.topics.events;
    let redrive = ["redrive", "--since", "2020-01-01T00:00:00Z"];

    let plan = run(&world, &redrive, &[]).await;
    assert!(
        plan.stdout.contains("1 to redrive, 3 skipped"),
        "{}",
        plan.stdout
    );
    assert!(
        plan.stdout.contains("it came back 3 times"),
        "{}",
        plan.stdout
    );
    let unconfirmed = run(
        &world,
        &redrive,
        &["--execute", "--reason", "x", "--actor", "kim"],
    );
    assert_eq!(unconfirmed.await.code, Some(4));
    let nobody = run(&world, &redrive, &["--execute", "--yes", "--reason", "x"]);
    assert_eq!(nobody.await.code, Some(2));
    assert_eq!(world.read(events).await.len(), 4);

    let command = [&["dlq"], &redrive[..], &EXECUTE].concat();
    let done = world.json(&command).await;
    assert_eq!(done["redriven"], Value::from(vec!["0/1"]));
    let written = world.read(events).await;
    assert_eq!(written.len(), 5);
    let redriven = written
        .iter()
        .find(|r| r.header("seckill-redrive-count") == Some(b"1"));
    let record = redriven.expect("it is marked");
    let decoded = record.event(4).unwrap();
    assert_eq!(
        decoded.voucher_id,
        voucher(17),
        "under its own key, in its partition"
    );
    assert_eq!(record.payload.as_deref(), Some(&encode_event(&decoded)[..]));
    let expected: [(&str, Option<&[u8]>); 2] = [
        ("ce_id", Some(b"an id")),
        ("seckill-redrive-count", Some(b"1")),
    ];
    assert_eq!(record.headers, expected.into_iter().collect());

    assert_eq!(listed(&world, &[]).await, ["0/0", "0/2", "0/3"]);
    let all = world.json(&["dlq", "list", "--all"]).await;
    assert_eq!(all[1]["fate"], "redriven");
    assert_eq!(
        world.audit().await,
        [("kim".to_owned(), "mended".to_owned(), 1)]
    );

    let again = run(&world, &redrive, &EXECUTE).await;
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert_eq!(world.read(events).await.len(), 5);
    assert_eq!(world.audit().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_is_in_the_file_first() {
    let world = world().await;
    let name = format!("{}.jsonl", world.topics.dead_letters);
    let file = std::env::temp_dir().join(name);
    let export = file.to_str().unwrap();
    let discard = ["discard", "0/0", "0/3", "--export", export];

    let plan = run(&world, &discard, &[]).await;
    assert!(plan.stdout.contains("2 to discard"), "{}", plan.stdout);
    assert!(!file.exists());
    let done = run(&world, &discard, &EXECUTE).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let text = std::fs::read_to_string(&file).unwrap();
    let letters: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[1]["letter"], "0/3");
    assert_eq!(letters[1]["record"]["payload_hex"], "676172626167652000ff");
    assert_eq!(listed(&world, &[]).await, ["0/1", "0/2"]);
    assert_eq!(
        world.audit().await,
        [("kim".to_owned(), "mended".to_owned(), 2)]
    );

    let again = run(&world, &discard, &EXECUTE).await;
    assert_eq!(again.code, Some(3), "{}", again.stderr);
    let other = ["discard", "0/2", "--export", export];
    let kept = run(&world, &other, &EXECUTE).await;
    assert_eq!(kept.code, Some(1), "{}", kept.stderr);
    assert_eq!(
        listed(&world, &[]).await,
        ["0/1", "0/2"],
        "nothing is discarded unexported"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    std::fs::remove_file(&file).unwrap();
}

/// Framed as a record of a schema that no version has.
fn of_unknown_schema() -> Vec<u8> {
    [&[0xC3, 0x01][..], &[7; 8], b"what it says"].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_skips_a_record_of_an_unknown_schema_and_the_log_says_so() {
    let world = CliWorld::new(1).await;
    world.write_record(&record("17", b"?".to_vec(), &[])).await;
    let unknown = record("17", of_unknown_schema(), &[]);
    assert_eq!(world.write_record(&unknown).await, Offset::new(1));
    let sale = encode_event(&scheduled(voucher(17)));
    world.write_record(&record("17", sale, &[])).await;

    let malformed = run(&world, &["skip", "0/0"], &EXECUTE).await;
    assert_eq!(malformed.code, Some(4), "{}", malformed.stderr);
    assert!(
        malformed.stderr.contains("by itself"),
        "{}",
        malformed.stderr
    );
    let known = run(&world, &["skip", "0/2"], &EXECUTE).await;
    assert_eq!(known.code, Some(4), "{}", known.stderr);
    assert!(
        known
            .stderr
            .contains("SaleScheduled that this version can read"),
        "{}",
        known.stderr
    );
    assert_eq!(run(&world, &["skip", "0/9"], &EXECUTE).await.code, Some(3));

    let plan = run(&world, &["skip", "0/1"], &[]).await;
    assert!(
        plan.stdout.contains("unknown schema fingerprint"),
        "{}",
        plan.stdout
    );
    assert_eq!(world.read(&world.topics.events).await.len(), 3);
    assert!(listed(&world, &["--all"]).await.is_empty());

    for _ in 0..2 {
        let done = run(&world, &["skip", "0/1"], &EXECUTE).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        let log = world.read(&world.topics.events).await;
        assert_eq!(log.len(), 4, "one decision");
        let EventBody::RecordSkipped(skip) = log[3].event(1).unwrap().body else {
            panic!("another event");
        };
        assert_eq!((skip.partition, skip.offset), (0, Offset::new(1)));
        assert_eq!(
            (skip.reason.as_str(), skip.actor.as_str()),
            ("mended", "kim")
        );
    }
    world.fold().await;
    let all = world.json(&["dlq", "list"]).await;
    assert_eq!(all[1]["letter"], "0/1");
    assert_eq!(all[1]["cause"], "skipped by kim: mended");
    let late = run(&world, &["skip", "0/1"], &EXECUTE).await;
    assert_eq!(late.code, Some(0), "it is done: {}", late.stderr);
}
