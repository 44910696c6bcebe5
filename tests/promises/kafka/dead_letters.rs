//! Garbage between good records is copied to the dead-letter topic with its bytes, and delays nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use seckill_domain::{Event, EventBody, EventId, OrderExpired, OrderId, Timestamp, VoucherId};
use seckill_eventlog::{KafkaSettings, Record, Topics, encode_event, read_all};
use seckill_tests::{
    ForeignProducer, SaleTerms, World, check_consistency, eventually, until_ready, until_unready,
};
use uuid::Uuid;

const GARBAGE: usize = 1_000;

/// Key, payload and partition of the n-th piece of garbage.
fn garbage(n: usize, voucher: VoucherId, foreign: &ForeignProducer) -> (String, Vec<u8>, i32) {
    let key = voucher.to_string();
    let home = foreign.home_of(voucher);
    let good = expiry_of_nothing(voucher, n);
    let away = (home + 1) % foreign.partitions();
    match n % 5 {
        0 => (key, [b"?", &n.to_be_bytes()[..]].concat(), home),
        1 => (key, Vec::new(), home),
        2 => ("not a voucher".to_owned(), good, home),
        3 => (key, good, away),
        _ => (key, good[..good.len() - 1 - n % 7].to_vec(), home),
    }
}

/// A good record that changes nothing: the expiry of an order that nobody made.
fn expiry_of_nothing(voucher: VoucherId, n: usize) -> Vec<u8> {
    encode_event(&Event {
        event_id: EventId::from_uuid(Uuid::now_v7()),
        voucher_id: voucher,
        occurred_at: Timestamp::from_micros(1),
        body: EventBody::OrderExpired(OrderExpired {
            order_id: OrderId::from_parts(voucher, 9, n as u64),
            pay_by: Timestamp::from_micros(1),
        }),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pieces_of_garbage_are_kept_and_cost_nothing() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 50,
            ..SaleTerms::default()
        })
        .await?;
    let setting = |name| world.stack.setting(name);
    let topics = Topics::new(setting("TOPIC_PREFIX"));
    let brokers = setting("KAFKA_BROKERS");
    let foreign = ForeignProducer::of(&world)?;

    let mut answers = Vec::new();
    let mut sent: BTreeMap<(i32, i64), (Vec<u8>, Vec<u8>)> = BTreeMap::new();
    for n in 0..GARBAGE {
        let (key, payload, partition) = garbage(n, voucher, &foreign);
        let offset = foreign.write(partition, &key, &payload).await?;
        sent.insert((partition, offset), (key.into_bytes(), payload));
        if n % 25 == 0 {
            let user = n as u64 + 1;
            answers.push(world.client.order(voucher, user, None, 1).await?);
        }
    }

    let settings = KafkaSettings::new(brokers, "test");
    let pool = sqlx::PgPool::connect(setting("DATABASE_URL")).await?;
    eventually("the lag is 0", || async {
        let log = read_all(&settings, &topics.events, Duration::from_secs(30)).await?;
        let behind: i64 = lag(&pool, &log).await?;
        Ok(behind == 0)
    })
    .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.unpaid, 40, "every good order stands");

    let letters = read_all(&settings, &topics.dead_letters, Duration::from_secs(30)).await?;
    let mut buried = BTreeMap::new();
    for letter in &letters {
        assert_eq!(header(letter, "topic")?, topics.events);
        assert!(!header(letter, "message")?.is_empty());
        let source = (
            header(letter, "partition")?.parse()?,
            header(letter, "offset")?.parse()?,
        );
        let bytes = (
            letter.key.clone().unwrap_or_default(),
            letter.payload.clone().unwrap_or_default(),
        );
        buried.insert(source, bytes);
    }
    assert_eq!(buried.len(), GARBAGE);
    assert!(buried == sent, "a dead letter's bytes were touched");
    Ok(())
}

/// A constraint that this test adds makes PostgreSQL refuse one buyer's row. The fault is in the view and not in the
/// event.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_wall_refuses_stops_its_partition_and_is_not_lost() -> Result<()> {
    let world = World::start()?;
    let voucher = world
        .sale(SaleTerms {
            stock: 50,
            ..SaleTerms::default()
        })
        .await?;
    let pool = sqlx::PgPool::connect(world.stack.setting("DATABASE_URL")).await?;
    sqlx::query("ALTER TABLE orders ADD CONSTRAINT not_him CHECK (user_id <> 13)")
        .execute(&pool)
        .await?;
    let orders = (1..=30).map(|user| world.client.order(voucher, user, None, 1));
    let answers = try_join_all(orders).await?;
    assert!(
        answers.iter().all(|answer| answer.status == 202),
        "{answers:?}"
    );
    until_unready(&world.projector, "not_him").await?;
    let refused: i64 = sqlx::query_scalar("SELECT count(*) FROM orders WHERE user_id = 13")
        .fetch_one(&pool)
        .await?;
    assert_eq!(refused, 0);

    sqlx::query("ALTER TABLE orders DROP CONSTRAINT not_him")
        .execute(&pool)
        .await?;
    world.quiet(voucher).await?;
    let found = check_consistency(&world, voucher, &answers).await?;
    assert_eq!(found.unpaid, 30, "every order stands");
    let skipped: i64 = sqlx::query_scalar("SELECT count(*) FROM skipped_records")
        .fetch_one(&pool)
        .await?;
    assert_eq!(skipped, 0);
    until_ready(&world.projector).await
}

fn header(record: &Record, name: &str) -> Result<String> {
    let value = record.header(&format!("__dlq.errors.{name}"));
    Ok(String::from_utf8(value.context("no header")?.to_vec())?)
}

/// The number of records of the log that the fold has not reached.
async fn lag(pool: &sqlx::PgPool, log: &[Record]) -> Result<i64> {
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for record in log {
        let end = ends.entry(record.partition).or_default();
        *end = (*end).max(record.offset.next().get());
    }
    let positions: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, next_offset FROM view_positions WHERE view = 'effects'")
            .fetch_all(pool)
            .await?;
    let positions: BTreeMap<i32, i64> = positions.into_iter().collect();
    let behind = ends
        .iter()
        .map(|(p, end)| end - positions.get(p).copied().unwrap_or(0));
    Ok(behind.sum())
}
