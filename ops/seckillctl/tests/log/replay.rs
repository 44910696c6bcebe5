//! `replay`

use std::collections::BTreeMap;

use seckill_eventlog::{Headers, Record};
use serde_json::Value;

use crate::harness::{CliWorld, order, reserved, scheduled, user, voucher};

const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "lost", "--actor", "kim"];

/// Two sales with two orders each, in two partitions.
async fn world() -> CliWorld {
    let world = CliWorld::new(2).await;
    for number in [17, 18] {
        let sale = voucher(number);
        world.write(&scheduled(sale), None).await;
        for n in 1..=2 {
            let buyer = user(i64::try_from(n).unwrap());
            world.write(&reserved(order(sale, n), buyer), None).await;
        }
    }
    world
}

type Contents = (Option<Vec<u8>>, Option<Vec<u8>>, Headers);

/// What is in the records, by the id in their headers.
fn by_id(records: &[Record]) -> BTreeMap<Vec<u8>, Contents> {
    let entry = |r: &Record| {
        let id = r.header("ce_id").unwrap().to_vec();
        (id, (r.key.clone(), r.payload.clone(), r.headers.clone()))
    };
    records.iter().map(entry).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_copied_as_they_are_and_only_when_told_to() {
    let world = world().await;
    let target = world.other_topics().await.events;
    let replay = ["replay", "--voucher", "17", "--to-topic", &target];

    let plan = world.run(&replay).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(plan.stdout.contains("3 records to copy"), "{}", plan.stdout);
    assert!(world.read(&target).await.is_empty());
    let unconfirmed = [
        &replay[..],
        &["--execute", "--reason", "x", "--actor", "kim"],
    ]
    .concat();
    assert_eq!(world.run(&unconfirmed).await.code, Some(4));
    assert!(world.read(&target).await.is_empty());

    let done = world.json(&[&replay[..], &EXECUTE].concat()).await;
    assert_eq!(
        (&done["records"], &done["executed"]),
        (&3.into(), &true.into())
    );
    let mut originals = by_id(&world.read(&world.topics.events).await);
    originals.retain(|_, (key, _, _)| key.as_deref() == Some(b"17"));
    assert!(
        by_id(&world.read(&target).await) == originals,
        "a copy is not its original"
    );
    assert_eq!(
        world.audit().await,
        [("kim".to_owned(), "lost".to_owned(), 3)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipelines_own_topics_are_never_written_to() {
    let world = world().await;
    let before = world.read(&world.topics.events).await.len();
    let names = [
        world.topics.events.as_str(),
        &world.topics.outcomes,
        &world.topics.dead_letters,
        "seckill.order-events.v1",
    ];
    for name in names {
        let replay = [&["replay", "--to-topic", name][..], &EXECUTE].concat();
        let refused = world.run(&replay).await;
        assert_eq!(refused.code, Some(4), "{name}");
    }
    let missing = [&["replay", "--to-topic", "nowhere"][..], &EXECUTE].concat();
    assert_eq!(world.run(&missing).await.code, Some(1));
    assert_eq!(world.read(&world.topics.events).await.len(), before);
    assert!(world.audit().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_a_line_a_record_of_the_range() {
    let world = world().await;
    let lines = async |arguments: &[&str]| {
        let ran = world
            .run(&[&["replay", "--stdout"], arguments].concat())
            .await;
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let lines = ran.stdout.lines().map(serde_json::from_str::<Value>);
        lines.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(lines(&[]).await.len(), 6);
    assert_eq!(lines(&["--until", "2020-01-01T00:00:00Z"]).await.len(), 0);
    assert_eq!(lines(&["--since", "2020-01-01T00:00:00Z"]).await.len(), 6);
    let one = order(voucher(18), 2).to_string();
    let found = lines(&["--order", &one, "--per-second", "10"]).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["event"]["order_id"], one);
    assert_eq!(found[0]["key"], "18");

    let first = &lines(&["--voucher", "18"]).await[0];
    let from = (first["offset"].as_i64().unwrap() + 1).to_string();
    let rest = lines(&["--voucher", "18", "--from-offset", &from]).await;
    assert_eq!(rest.len(), 2);
    let usage = world
        .run(&["replay", "--stdout", "--from-offset", "1"])
        .await;
    assert_eq!(usage.code, Some(2), "{}", usage.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_quietly_with_its_reader_and_fails_where_there_is_no_room() {
    let world = world().await;
    let unread = world.run_unread(&["replay", "--stdout"]).await;
    assert_eq!((unread.code, unread.stderr.as_str()), (Some(0), ""));
    let mut command = world.command(&["replay", "--stdout"]);
    let full = std::fs::File::options().write(true).open("/dev/full");
    command.stdout(full.unwrap());
    let full = tokio::task::spawn_blocking(move || command.output());
    let full = full.await.unwrap().unwrap();
    let message = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{message}");
    assert!(message.contains("standard output"), "{message}");
}
