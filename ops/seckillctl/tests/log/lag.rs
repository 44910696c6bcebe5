//! `topics lag`

use seckill_domain::{Event, LogBatch, Offset};
use seckill_orderbook::SkipDecisions;
use serde_json::Value;

use crate::harness::{CliWorld, order, reserved, scheduled, user, voucher};

/// Writes a sale and three orders; returns their partition.
async fn write(world: &CliWorld) -> (i32, Vec<(Offset, Event)>) {
    let sale = voucher(17);
    let orders = (1..=3).map(|n| reserved(order(sale, n), user(i64::try_from(n).unwrap())));
    let mut events = Vec::new();
    let mut partition = 0;
    for event in std::iter::once(scheduled(sale)).chain(orders) {
        let at = world.write(&event, None).await;
        partition = at.0;
        events.push((at.1, event));
    }
    (partition, events)
}

fn of_partition(lag: &Value, partition: i32) -> &Value {
    let partitions = lag["partitions"].as_array().unwrap();
    let mut found = partitions.iter().filter(|p| p["partition"] == partition);
    found.next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_view_is_behind_by_its_own_position() {
    let world = CliWorld::new(3).await;
    let topic = &world.topics.events;
    let (partition, events) = write(&world).await;
    let (start, middle, end) = (Offset::new(0), Offset::new(3), Offset::new(4));
    let skips = SkipDecisions::default();
    let batch = LogBatch::of_events(events[..3].to_vec(), middle);
    let applied = world.book.apply(topic, partition, start, &batch, &skips);
    applied.await.unwrap();
    let moved = world.book.move_effects(topic, partition, Offset::new(1), 0);
    moved.await.unwrap();

    let lag = world.json(&["topics", "lag"]).await;
    let row = of_partition(&lag, partition);
    assert_eq!(
        (&row["log_end"], &row["fold"], &row["effects"]),
        (&4.into(), &3.into(), &1.into())
    );
    assert_eq!(row["fold_lag"]["events"], 1);
    assert_eq!(row["effects_lag"]["events"], 3);
    assert_eq!(lag["all"]["effects_lag"]["events"], 3);
    let seconds = |view: &str| row[view]["seconds"].as_f64().unwrap();
    assert!(seconds("fold_lag") > 0.0, "{row}");
    assert!(seconds("effects_lag") >= seconds("fold_lag"), "{row}");
    let elsewhere = of_partition(&lag, (partition + 1) % 3);
    assert_eq!(elsewhere["fold_lag"]["events"], 0);
    assert_eq!(elsewhere["fold_lag"]["seconds"], 0.0);

    let batch = LogBatch::of_events(events[3..].to_vec(), end);
    let applied = world.book.apply(topic, partition, middle, &batch, &skips);
    applied.await.unwrap();
    let moved = world.book.move_effects(topic, partition, end, 0);
    moved.await.unwrap();
    let table = world.run(&["topics", "lag"]).await;
    let last = table.stdout.lines().last().unwrap();
    let cells: Vec<_> = last.split_whitespace().collect();
    assert_eq!(cells, ["all", "0", "0.0", "0", "0.0"], "{}", table.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_of_another_log_is_told_apart_from_one_without_lag() {
    let world = CliWorld::new(3).await;
    let (partition, _) = write(&world).await;
    let moved = world
        .book
        .move_effects(&world.topics.events, partition, Offset::new(5), 0);
    moved.await.unwrap();
    let refused = world.run(&["topics", "lag"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("cut or replaced"),
        "{}",
        refused.stderr
    );
}
