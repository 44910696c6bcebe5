//! An operator lets a view accept another log than the one from which it was folded. Decided and promised orders stay,
//! and the sales sell again.

mod scene;

use anyhow::{Context, Result, ensure};
use seckill_eventlog::Topics;
use seckill_testkit::{KafkaCluster, TestStack};
use seckill_tests::{copies_of, eventually, leader_of, until_unready};

use self::scene::ACT;
pub(crate) use self::scene::Scene;
use crate::kafka::another_log::made_anew;
use crate::process_deaths::killed_commands::killed_when;

#[tokio::test(flavor = "multi_thread")]
async fn a_view_accepts_a_log_that_was_made_anew_and_keeps_what_was_decided() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder()).await?;
    made_anew(&scene.world).await?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(said.contains("The fold goes on at 0."), "{said}");
    ensure!(said.contains("3 orders, written once more"), "{said}");
    scene.is_back().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_accepts_a_log_that_was_cut_and_grew_again_and_keeps_what_was_decided() -> Result<()>
{
    let mut scene = Scene::begin(TestStack::builder().private_kafka()).await?;
    let partition = scene.partition()?;
    let topic = Topics::new(scene.world.stack.setting("TOPIC_PREFIX")).events;
    let broker = scene.world.stack.kafka.as_mut().context("its broker")?;
    // The lost records are those that were not folded, the cancellation, the payment, and the orders between them.
    let end = broker.restart_without_last(&topic, partition, 7)?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {end}.")),
        "{end}: {said}"
    );
    scene.is_back().await
}

/// Nothing was written after the cut, so the view's position is beyond the end of the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_stands_beyond_the_end_of_a_cut_log_accepts_it() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder().private_kafka()).await?;
    let partition = scene.partition()?;
    let topic = Topics::new(scene.world.stack.setting("TOPIC_PREFIX")).events;
    let broker = scene.world.stack.kafka.as_mut().context("its broker")?;
    let end = broker.restart_without_last(&topic, partition, 7)?;
    scene.world.ingress.relaunch(&[])?;
    scene.world.projector.relaunch(&[])?;
    until_unready(&scene.world.projector, "it was cut or made anew").await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {end}.")),
        "{end}: {said}"
    );
    scene.world.projector.relaunch(&[])?;
    scene.sells_again().await
}

/// One of the partition's two replicas lacks the last records, and becomes the leader when the other one dies, because
/// unclean elections were allowed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: three brokers"]
async fn a_view_accepts_a_log_that_an_unclean_election_has_cut_and_keeps_what_was_decided()
-> Result<()> {
    let brokers = KafkaCluster::start(3)?;
    let stores = TestStack::builder().kafka_cluster(brokers).topic_copies(2);
    let mut scene = Scene::opens(stores).await?;
    scene.allows_unclean_elections(true)?;
    let (leader, follower) = copies_of(&scene.world, scene.voucher)?;
    scene.brokers()?.kill(follower)?;
    let kept = scene.position().await?;
    scene.goes_on().await?;
    scene.brokers()?.kill(leader)?;
    scene.brokers()?.restart(follower)?;
    eventually("the copy that lacks records leads", || async {
        Ok(leader_of(&scene.world, scene.voucher)? == Some(follower))
    })
    .await?;
    scene.brokers()?.restart(leader)?;
    // No service starts while unclean elections are allowed.
    scene.allows_unclean_elections(false)?;
    // It may have ended because of its Kafka clients.
    let timeout = &mut scene.world.timeout;
    if timeout.exit_status()?.is_some() {
        timeout.relaunch(&[])?;
    }
    scene.sells_on().await?;
    scene.stands_still().await?;
    let said = scene.accept()?;
    ensure!(
        said.contains(&format!("The fold goes on at {kept}.")),
        "{kept}: {said}"
    );
    scene.is_back().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_that_was_killed_before_its_commit_is_given_again() -> Result<()> {
    let mut scene = Scene::begin(TestStack::builder()).await?;
    made_anew(&scene.world).await?;
    scene.sells_on().await?;
    scene.stands_still().await?;
    let before = scene.records().await?;
    // Lock the row of the position, so that the command stops in the middle of its transaction.
    let pool = scene.world.database().await?;
    let mut lock = pool.begin().await?;
    sqlx::query("SELECT FROM view_positions FOR UPDATE")
        .execute(&mut *lock)
        .await?;
    let partition = scene.partition()?.to_string();
    let accept = [&["topics", "accept", "--partition", &partition][..], &ACT].concat();
    killed_when(&scene.world, &accept, "http://127.0.0.1:1", || async {
        Ok(scene.records().await? == before + 3)
    })
    .await?;
    lock.rollback().await?;
    until_unready(&scene.world.projector, "is another one than was folded").await?;

    let said = scene.accept()?;
    ensure!(said.contains("0 orders, written once more"), "{said}");
    ensure!(
        scene.records().await? >= before + 3,
        "they stand in the log"
    );
    scene.is_back().await
}
