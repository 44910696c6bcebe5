//! The topic of states has the latest state of every order, and can be made again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use seckill_domain::Outcome;
use seckill_eventlog::{KafkaSettings, Record, Topics, decode_outcome, read_all};
use seckill_testkit::service::run_binary;
use seckill_tests::{EXECUTE, SaleTerms, World, eventually};

const IDLE: Duration = Duration::from_secs(30);

async fn records(world: &World, topic: &str) -> Result<Vec<Record>> {
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    Ok(read_all(&settings, topic, IDLE).await?)
}

/// For each order, the status with the highest version.
fn latest(records: &[Record]) -> Result<BTreeMap<String, (i64, String)>> {
    let mut orders = BTreeMap::new();
    for record in records {
        let payload = record.payload.as_deref().context("a tombstone")?;
        let Outcome::Order(order) = decode_outcome(payload)?.outcome else {
            anyhow::bail!("no state of an order");
        };
        let id = order.order_id.to_string();
        ensure!(record.key.as_deref() == Some(id.as_bytes()), "another key");
        let state = (order.version, order.status.as_str().to_owned());
        let known: &mut (i64, String) = orders.entry(id).or_insert_with(|| state.clone());
        *known = state.max(known.clone());
    }
    Ok(orders)
}

async fn rows(world: &World) -> Result<BTreeMap<String, String>> {
    let pool = world.database().await?;
    let rows: Vec<(String, String)> = sqlx::query_as("SELECT order_id::text, status FROM orders")
        .fetch_all(&pool)
        .await?;
    Ok(rows.into_iter().collect())
}

fn statuses(latest: BTreeMap<String, (i64, String)>) -> BTreeMap<String, String> {
    let status = |(order, (_, status))| (order, status);
    latest.into_iter().map(status).collect()
}

/// Checks that a consumer that reads the topic from its beginning gets the current states.
pub(crate) async fn the_latest_states_are_the_rows(world: &World) -> Result<()> {
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let states = records(world, &topics.states).await?;
    ensure!(
        statuses(latest(&states)?) == rows(world).await?,
        "{states:?}"
    );
    Ok(())
}

fn ids(records: &[Record]) -> Result<BTreeSet<String>> {
    let payloads = records.iter().map(|record| record.payload.as_deref());
    let outcomes = payloads.map(|payload| decode_outcome(payload.unwrap_or_default()));
    outcomes
        .map(|outcome| Ok(outcome?.event_id.to_string()))
        .collect()
}

fn rebuild_states(world: &World) -> Result<String> {
    let command = [&["rebuild", "states"][..], &EXECUTE].concat();
    tokio::task::block_in_place(|| run_binary("seckillctl", &command, world.stack.env()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_states_are_what_was_decided_last_and_can_be_published_again() -> Result<()> {
    let world = World::start()?;
    let topics = Topics::new(world.stack.setting("TOPIC_PREFIX"));
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let mut orders = Vec::new();
    for user in 1..5 {
        let answer = world.client.order(voucher, user, None, 1).await?;
        orders.push(answer.order_id().context("no order")?.to_owned());
    }
    for (user, order) in (1..).zip(&orders) {
        world.until_status(user, order, "unpaid").await?;
    }
    world.client.pay(&orders[0], "pay-1", 1_000).await?;
    let cancelled = world.client.cancel(2, &orders[1]).await?;
    ensure!(cancelled.status == 202, "{cancelled:?}");
    world.until_status(1, &orders[0], "paid").await?;
    world.until_status(2, &orders[1], "cancelled").await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;

    let expected = rows(&world).await?;
    let states = records(&world, &topics.states).await?;
    ensure!((expected.len(), states.len()) == (4, 6), "{expected:?}");
    ensure!(statuses(latest(&states)?) == expected);
    let outcomes = records(&world, &topics.outcomes).await?;
    let bytes = |records: &[Record]| -> BTreeSet<Option<Vec<u8>>> {
        records
            .iter()
            .map(|record| record.payload.clone())
            .collect()
    };
    ensure!(
        bytes(&states).is_subset(&bytes(&outcomes)),
        "the same records"
    );

    // The topic is lost.
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", world.stack.setting("KAFKA_BROKERS"));
    let admin: AdminClient<DefaultClientContext> = AdminClient::from_config(&config)?;
    let deleted = admin
        .delete_topics(&[&topics.states], &AdminOptions::new())
        .await?;
    ensure!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    eventually("the topic can be made again", || async {
        let command = ["topics", "create"];
        let made =
            tokio::task::block_in_place(|| run_binary("seckillctl", &command, world.stack.env()));
        Ok(made.is_ok() && records(&world, &topics.states).await?.is_empty())
    })
    .await?;
    let plan = world.seckillctl(&["rebuild", "states"])?;
    ensure!(plan.contains("4 orders would be published"), "{plan}");
    let told = rebuild_states(&world)?;
    ensure!(told.contains("4 orders are published"), "{told}");
    let again = records(&world, &topics.states).await?;
    ensure!(
        again.len() == 4 && statuses(latest(&again)?) == expected,
        "{again:?}"
    );
    // They have the same ids as the outcomes, so that a consumer of both topics recognises them.
    ensure!(ids(&again)?.is_subset(&ids(&outcomes)?));

    // The projector continues with the new topic.
    world.client.pay(&orders[2], "pay-3", 1_000).await?;
    world.until_status(3, &orders[2], "paid").await?;
    world.until_carried_out().await?;
    the_latest_states_are_the_rows(&world).await
}
