//! Three brokers of which at least two must have each record. One broker may die, but not two.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, check_topics, create_topics};
use seckill_testkit::ports::free_port;
use seckill_testkit::stack::secret;
use seckill_testkit::tls::Authority;
use seckill_testkit::{KafkaCluster, TestStack, unique_prefix};
use seckill_tests::secured::{borrowed, kafka_settings, listener};
use seckill_tests::{
    Answer, Crowd, SaleTerms, World, check_consistency, eventually, leader_of, until_ready,
    until_unready,
};

/// A user who is not in the crowd.
const SINGLE: u64 = 30_000;

fn brokers(world: &mut World) -> Result<&mut KafkaCluster> {
    world.stack.kafka_cluster.as_mut().context("its brokers")
}

/// Waits until the fold and the effects have caught up, while the crowd goes on. A service that has ended meanwhile
/// because of its Kafka clients is started again, as a supervisor would do.
async fn until_level(world: &mut World, voucher: VoucherId) -> Result<()> {
    let keeps_up = async |world: &World| {
        let ledger = world.client.ledger(voucher).await?;
        Ok(ledger["consistent"] == true && ledger["in_flight"].as_i64() < Some(20))
    };
    world
        .eventually_under_supervision("the projector keeps up again", keeps_up)
        .await
        .map(drop)
}

async fn the_leader_is_killed(
    world: &mut World,
    voucher: VoucherId,
    crowd: &Crowd,
) -> Result<usize> {
    let leader = leader_of(world, voucher)?.context("a leader")?;
    brokers(world)?.kill(leader)?;
    let (killed, refused) = (Instant::now(), crowd.refused());
    crowd.flows(20).await?;
    let flows_ms = killed.elapsed().as_millis();
    eventually("another broker leads", || async {
        Ok(leader_of(world, voucher)?.is_some_and(|now| now != leader))
    })
    .await?;
    crowd.flows(200).await?;
    until_level(world, voucher).await?;
    println!(
        "case leader of three brokers killed: orders_again_ms={flows_ms} refused={} recovered_ms={}",
        crowd.refused() - refused,
        killed.elapsed().as_millis()
    );
    Ok(leader)
}

/// No write can be acknowledged, so orders are refused. The one that was under way gets its order afterwards.
async fn two_of_three_are_killed(
    world: &mut World,
    voucher: VoucherId,
    crowd: &Crowd,
) -> Result<Answer> {
    let client = world.client.clone();
    let leader = leader_of(world, voucher)?.context("a leader")?;
    let other = leader % 3 + 1;
    for broker in [leader, other] {
        brokers(world)?.kill(broker)?;
    }
    let caught = eventually_caught(&client, voucher).await?;
    until_unready(&world.ingress, "kafka").await?;
    let refused = client.order(voucher, SINGLE + 1, None, 1).await?;
    assert_eq!(
        (refused.status, refused.problem()),
        (503, "unavailable"),
        "{refused:?}"
    );
    for broker in [leader, other] {
        brokers(world)?.restart(broker)?;
    }
    let back = Instant::now();
    crowd.flows(20).await?;
    let flows_ms = back.elapsed().as_millis();
    until_ready(&world.ingress).await?;
    crowd.flows(200).await?;
    until_level(world, voucher).await?;
    println!(
        "case two of three brokers killed: orders_again_ms={flows_ms} recovered_ms={}",
        back.elapsed().as_millis()
    );
    Ok(caught)
}

/// An order whose units are taken and whose event cannot be acknowledged.
async fn eventually_caught(client: &seckill_tests::Client, voucher: VoucherId) -> Result<Answer> {
    let answer = client.order(voucher, SINGLE, Some("k"), 1).await?;
    let says = (answer.status, answer.body["status"].as_str());
    // The crowd may have seen refusals before.
    assert!(
        says == (202, Some("pending")) || says == (503, None) && answer.problem() == "unavailable",
        "no promise: {answer:?}"
    );
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three brokers"]
async fn one_of_three_brokers_may_die_and_not_two() -> Result<()> {
    let stores = TestStack::builder().kafka_cluster(KafkaCluster::start(3)?);
    let mut world = World::over(stores, &[("PROMISE_DEADLINE_MS", "1000")])?;
    let voucher = world.sale(SaleTerms::of(20_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(50).await?;

    let dead = the_leader_is_killed(&mut world, voucher, &crowd).await?;
    brokers(&mut world)?.restart(dead)?;
    let caught = two_of_three_are_killed(&mut world, voucher, &crowd).await?;

    let mut answers = crowd.leave().await?;
    answers.push(caught);
    nobody_lost_anything(&world, voucher, &answers).await
}

async fn nobody_lost_anything(world: &World, voucher: VoucherId, answers: &[Answer]) -> Result<()> {
    let unexpected = answers.iter().find(|a| !matches!(a.status, 202 | 503));
    assert!(unexpected.is_none(), "{unexpected:?}");
    world.quiet(voucher).await?;
    assert_eq!(
        check_consistency(world, voucher, answers).await?.rejected,
        0
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three brokers"]
async fn a_leader_over_tls_may_die() -> Result<()> {
    let (authority, password) = (Authority::new()?, secret());
    let certificate = authority.issue("kafka")?;
    let ports = [free_port()?, free_port()?, free_port()?];
    let secured = ports.map(|port| listener(port, certificate.clone(), &authority, &password));
    let stack = TestStack::builder()
        .kafka_cluster(KafkaCluster::secured(secured.into())?)
        .setting("PROMISE_DEADLINE_MS", "1000")
        .start()?;
    let brokers = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let own = authority.issue("shop")?;
    let settings = kafka_settings(brokers, &authority, &own, &password);
    let mut world = World::on(stack, &borrowed(&settings))?;
    let voucher = world.sale(SaleTerms::of(20_000)).await?;
    let crowd = Crowd::come(std::slice::from_ref(&world.client), voucher, 1..20_001);
    crowd.flows(50).await?;
    the_leader_is_killed(&mut world, voucher, &crowd).await?;
    let answers = crowd.leave().await?;
    nobody_lost_anything(&world, voucher, &answers).await
}

/// A client asks whichever broker it is connected to, and each broker learns of a new topic at its own time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three brokers"]
async fn topics_are_made_when_every_broker_knows_them() -> Result<()> {
    // A broker that stutters is not to leave the cluster.
    let mut cluster = KafkaCluster::with_session_timeout(3, 60_000)?;
    let brokers = cluster.brokers();
    let settings = |brokers: &str| KafkaSettings::new(brokers, "test");
    // Its pauses are the fault. Nothing is expected to have happened after one.
    let stutter = async {
        loop {
            cluster.pause(3)?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            cluster.resume(3)?;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let create = async {
        for _ in 0..5 {
            let topics = Topics::new(&unique_prefix());
            create_topics(&settings(&brokers), &topics, 12, 3).await?;
            let brokers = brokers.split(',').map(settings);
            try_join_all(brokers.map(async |broker| check_topics(&broker, &topics, 12).await))
                .await?;
        }
        Ok(())
    };
    tokio::select! {
        broken = stutter => broken,
        created = create => created,
    }
}
