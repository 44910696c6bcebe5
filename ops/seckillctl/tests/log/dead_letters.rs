//! `dlq`

use seckill_domain::{EventBody, Offset};
use seckill_eventlog::{Record, encode_event};
use serde_json::Value;

use crate::support::{Ran, World, event, scheduled, voucher};

const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "mended", "--actor", "kim"];

/// A record that was refused at this offset of partition 0.
fn refused(offset: i64, key: &str, payload: Vec<u8>, headers: &[(&str, &str)]) -> Record {
    Record {
        partition: 0,
        offset: Offset::new(offset),
        key: Some(key.as_bytes().to_vec()),
        payload: Some(payload),
        headers: headers
            .iter()
            .map(|(name, value)| (*name, Some(value.as_bytes())))
            .collect(),
        timestamp_ms: None,
    }
}

/// Bytes that say nothing (0/1, 0/4), a sale under another's key (0/2, twice), and a closing that
/// came back three times (0/3).
async fn world() -> World {
    let world = World::new(4).await;
    let sale = encode_event(&scheduled(voucher(17)));
    let closed = encode_event(&event(voucher(18), EventBody::SaleClosed));
    let garbage = || b"garbage \x00\xff".to_vec();
    let misplaced = refused(2, "99", sale, &[("ce_id", "an id")]);
    let looping = refused(3, "18", closed, &[("seckill-redrive-count", "3")]);
    world
        .bury(&refused(1, "17", garbage(), &[]), "no known framing")
        .await;
    world.bury(&misplaced, "the record's key is not 17").await;
    world.bury(&misplaced, "the record's key is not 17").await;
    world.bury(&looping, "refused by the database").await;
    world
        .bury(&refused(4, "20", garbage(), &[]), "no known framing")
        .await;
    world
}

async fn listed(world: &World, filters: &[&str]) -> Vec<String> {
    let letters = world.json(&[&["dlq", "list"], filters].concat()).await;
    let letters = letters.as_array().unwrap().iter();
    letters
        .map(|l| l["letter"].as_str().unwrap().to_owned())
        .collect()
}

async fn run(world: &World, command: &[&str], more: &[&str]) -> Ran {
    world.run(&[&["dlq"], command, more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_found_and_shown() {
    let world = world().await;
    assert_eq!(listed(&world, &[]).await, ["0/1", "0/2", "0/3", "0/4"]);
    assert_eq!(
        listed(&world, &["--cause", "framing"]).await,
        ["0/1", "0/4"]
    );
    assert_eq!(listed(&world, &["--voucher", "17"]).await, ["0/1", "0/2"]);
    assert_eq!(listed(&world, &["--limit", "2"]).await, ["0/1", "0/2"]);
    let future = ["--since", "2100-01-01T00:00:00Z"];
    assert!(listed(&world, &future).await.is_empty());

    let garbage = run(&world, &["show", "0/1"], &[]).await.stdout;
    let dump = "00000000  67 61 72 62 61 67 65 20 00 ff";
    assert!(garbage.contains(dump), "{garbage}");
    assert!(garbage.contains("__dlq.errors.group: test"), "{garbage}");
    let sale = world.json(&["dlq", "show", "0/2"]).await;
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
    assert!(world.read(events).await.is_empty());

    let command = [&["dlq"], &redrive[..], &EXECUTE].concat();
    let done = world.json(&command).await;
    assert_eq!(done["redriven"], Value::from(vec!["0/2"]));
    let written = world.read(events).await;
    let [record] = written.as_slice() else {
        panic!("one record, not {}", written.len());
    };
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

    assert_eq!(listed(&world, &[]).await, ["0/1", "0/3", "0/4"]);
    let all = world.json(&["dlq", "list", "--all"]).await;
    assert_eq!(all[1]["fate"], "redriven");
    assert_eq!(
        world.audit().await,
        [("kim".to_owned(), "mended".to_owned(), 1)]
    );

    let again = run(&world, &redrive, &EXECUTE).await;
    assert!(again.stdout.contains("nothing to do"), "{}", again.stdout);
    assert_eq!(world.read(events).await.len(), 1);
    assert_eq!(world.audit().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_discarded_is_in_the_file_first() {
    let world = world().await;
    let name = format!("{}.jsonl", world.topics.dead_letters);
    let file = std::env::temp_dir().join(name);
    let export = file.to_str().unwrap();
    let discard = ["discard", "0/1", "0/4", "--export", export];

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
    assert_eq!(letters[1]["letter"], "0/4");
    assert_eq!(letters[1]["record"]["payload_hex"], "676172626167652000ff");
    assert_eq!(listed(&world, &[]).await, ["0/2", "0/3"]);
    assert_eq!(
        world.audit().await,
        [("kim".to_owned(), "mended".to_owned(), 2)]
    );

    let again = run(&world, &discard, &EXECUTE).await;
    assert_eq!(again.code, Some(3), "{}", again.stderr);
    let other = ["discard", "0/3", "--export", export];
    let kept = run(&world, &other, &EXECUTE).await;
    assert_eq!(kept.code, Some(1), "{}", kept.stderr);
    assert_eq!(
        listed(&world, &[]).await,
        ["0/2", "0/3"],
        "nothing is discarded unexported"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    std::fs::remove_file(&file).unwrap();
}
