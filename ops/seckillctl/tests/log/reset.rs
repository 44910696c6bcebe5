//! `topics reset`

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use seckill_domain::Offset;
use seckill_orderbook::View;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::harness::{CliWorld, Ran, order, reserved, scheduled, user, voucher};

const EXECUTE: [&str; 6] = ["--execute", "--yes", "--reason", "why", "--actor", "kim"];

/// A sale and two orders, folded and carried out.
async fn carried_out() -> CliWorld {
    let world = CliWorld::new(1).await;
    world.write(&scheduled(voucher(17)), None).await;
    for number in 1..=2 {
        let buyer = user(i64::try_from(number).unwrap());
        let event = reserved(order(voucher(17), number), buyer);
        world.write(&event, None).await;
    }
    world.fold().await;
    let moved = world
        .book
        .move_effects(&world.topics.events, 0, Offset::new(3), 0);
    moved.await.unwrap();
    world
}

async fn reset(world: &CliWorld, view: &str, to: &str, acts: &[&str]) -> Ran {
    let what = ["topics", "reset", "--view", view, "--to-offset", to];
    world.run(&[&what[..], acts].concat()).await
}

async fn stands_at(world: &CliWorld, view: View) -> i64 {
    let positions = world.book.positions(&world.topics.events, &[0], view);
    positions.await.unwrap()[0].1.get()
}

/// Drops the records below `to`, as retention does.
async fn cut(world: &CliWorld, to: i64) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", world.brokers())
        .create()
        .unwrap();
    let mut below = TopicPartitionList::new();
    let added = below.add_partition_offset(&world.topics.events, 0, KafkaOffset::Offset(to));
    added.unwrap();
    let cut = admin.delete_records(&below, &AdminOptions::new()).await;
    cut.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_go_back_when_told_to_and_that_is_noted() {
    let world = carried_out().await;
    let plan = reset(&world, "effects", "1", &[]).await;
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    assert!(
        plan.stdout.contains("the effects of 2 records again"),
        "{}",
        plan.stdout
    );
    assert_eq!(stands_at(&world, View::Effects).await, 3, "a plan");
    assert_eq!(world.audit().await, []);

    let done = reset(&world, "effects", "1", &EXECUTE).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(stands_at(&world, View::Effects).await, 1);
    assert_eq!(stands_at(&world, View::Orders).await, 3, "another view");
    let noted = ("kim".to_owned(), "why".to_owned(), 1);
    assert_eq!(world.audit().await, [noted]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_lose_something_is_refused() {
    let world = carried_out().await;
    for (view, to, why) in [
        ("effects", "4", "forward"),
        ("orders", "0", "rebuild orders"),
    ] {
        let plan = reset(&world, view, to, &[]).await;
        assert_eq!(plan.code, Some(0), "a plan may say so: {}", plan.stderr);
        let refused = reset(&world, view, to, &EXECUTE).await;
        assert_eq!(refused.code, Some(4), "{}", refused.stdout);
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }

    cut(&world, 2).await;
    let refused = reset(&world, "effects", "1", &EXECUTE).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("does not go back so far"),
        "{}",
        refused.stderr
    );
    assert_eq!(stands_at(&world, View::Effects).await, 3);
    assert_eq!(stands_at(&world, View::Orders).await, 3);
    assert_eq!(world.audit().await, []);

    let kept = reset(&world, "effects", "2", &EXECUTE).await;
    assert_eq!(kept.code, Some(0), "it is still there: {}", kept.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_moved_under_a_projector_that_runs() {
    let world = carried_out().await;
    let connect: PgConnectOptions = world.database_url().parse().unwrap();
    let connect = connect.application_name("seckill-projector");
    let projector = connect.connect().await.unwrap();
    let refused = reset(&world, "effects", "0", &EXECUTE).await;
    assert_eq!(refused.code, Some(4), "{}", refused.stdout);
    assert!(
        refused.stderr.contains("stop all of them"),
        "{}",
        refused.stderr
    );
    assert_eq!(stands_at(&world, View::Effects).await, 3);
    assert_eq!(world.audit().await, []);
    projector.close().await.unwrap();
}
