//! If the log is not read correctly, nothing is corrected: `seckillctl reconcile --execute` with correct stores and a
//! log that it cannot read, that has lost records, or that is not theirs. Each time the command says so, ends with a
//! status other than 0, and changes nothing.

use std::time::Duration;

use anyhow::{Result, ensure};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use seckill_domain::VoucherId;
use seckill_eventlog::{KafkaSettings, Topics, read_all};
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::service::run_binary;
use seckill_testkit::{Kafka, TestStack};
use seckill_tests::{
    Answer, EXECUTE, ForeignProducer, Harm, Injection, KafkaWire, SaleTerms, Victim, World,
    check_consistency, eventually, eventually_within,
};

/// The command: a repair with all permissions.
const REPAIR: [&str; 2] = ["reconcile", "--allow-removal"];

/// A sale with three promised orders, all decided and carried out.
async fn promised(world: &World) -> Result<(VoucherId, Vec<Answer>)> {
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let answers = world.client.orders(voucher, 1..4).await;
    ensure!(answers.len() == 3, "{answers:?}");
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    Ok((voucher, answers))
}

/// Checks that the command is refused, says this, and has changed nothing.
async fn refuses(world: &World, voucher: VoucherId, command: &[&str], says: &[&str]) -> Result<()> {
    let before = world.contents(voucher).await?;
    let told = world.refused(command)?;
    for says in says {
        ensure!(told.contains(says), "{says:?} in {told}");
    }
    let after = world.contents(voucher).await?;
    ensure!(after == before, "{told}\n{before:#?}\n{after:#?}");
    Ok(())
}

fn events(world: &World) -> String {
    Topics::new(world.stack.setting("TOPIC_PREFIX")).events
}

// ---------------------------------------------------------------------------------------------------
// A reader that dies

/// The number of records that are not events, so many that a partition is not fetched in one request.
const RECORDS: usize = 40;
const RECORD_BYTES: usize = 100_000;
/// The number of bytes of a part of the partition.
const SOME: usize = RECORDS * RECORD_BYTES / 3;
const ONCE: usize = RECORDS * RECORD_BYTES * 3 / 2;

/// Stores whose Kafka is reached over a wire, and a sale whose orders come after many other records.
async fn behind_a_wire() -> Result<(World, KafkaWire, Victim)> {
    let mut wire = KafkaWire::bind()?;
    let broker = Kafka::behind_proxy(wire.port())?;
    wire.lead_to(broker.own_address());
    let settings = [("PROMISE_DEADLINE_MS", "500")];
    let world = World::over(TestStack::builder().kafka(broker), &settings)?;
    let voucher = world.sale(SaleTerms::of(10)).await?;
    let foreign = ForeignProducer::of(&world)?;
    for _ in 0..RECORDS {
        foreign.write_as(voucher, &[b'x'; RECORD_BYTES]).await?;
    }
    let victim = Victim::of(&world, voucher, 1_000).await?;
    world.quiet(voucher).await?;
    world.until_carried_out().await?;
    Ok((world, wire, victim))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_while_it_is_read_is_no_end_of_the_log() -> Result<()> {
    let (mut world, wire, victim) = behind_a_wire().await?;
    let before = world.contents(victim.voucher).await?;
    wire.harm("seckillctl", Harm::CutsReading(SOME));
    let environment = world.stack.env().clone();
    let command = [&REPAIR[..], &EXECUTE].concat();
    let repair =
        tokio::task::spawn_blocking(move || run_binary("seckillctl", &command, &environment));
    eventually("it has read a part", || async {
        Ok(wire.swallows("seckillctl"))
    })
    .await?;
    let broker = world.stack.kafka.as_mut().expect("a broker of its own");
    tokio::task::block_in_place(|| broker.kill())?;
    let told = repair
        .await?
        .expect_err("it has not read the log to its end");
    ensure!(
        format!("{told:#}").contains("was not read to the end"),
        "{told:#}"
    );
    let after = world.contents(victim.voucher).await?;
    ensure!(after == before, "{told:#}\n{before:#?}\n{after:#?}");

    wire.spare("seckillctl");
    let broker = world.stack.kafka.as_mut().expect("a broker of its own");
    tokio::task::block_in_place(|| broker.restart())?;
    let compared = world.execute(&REPAIR)?;
    ensure!(compared.contains("0 differences"), "{compared}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_dies_after_the_plan_and_before_the_repair_writes_nothing() -> Result<()> {
    let (world, wire, victim) = behind_a_wire().await?;
    let (pool, mut redis) = (world.database().await?, world.redis().await?);
    Injection::CorruptedOrder
        .inject(&pool, &mut redis, &victim)
        .await?;
    wire.harm("seckillctl", Harm::CutsReading(ONCE));
    refuses(
        &world,
        victim.voucher,
        &REPAIR,
        &["was not read to the end"],
    )
    .await?;
    ensure!(
        wire.swallows("seckillctl"),
        "it has read less than the log once"
    );

    wire.spare("seckillctl");
    world.execute(&REPAIR)?;
    check_consistency(&world, victim.voucher, &[]).await?;
    Ok(())
}

// ---------------------------------------------------------------------------------------------------
// A log that has lost records

fn configure(world: &World, change: &str) -> Result<String> {
    let (brokers, topic) = (world.stack.setting("KAFKA_BROKERS"), events(world));
    tokio::task::block_in_place(|| {
        run_kafka_configs(&format!(
            "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics --entity-name {topic} \
             {change}"
        ))
    })
}

async fn records(world: &World) -> Result<usize> {
    let settings = KafkaSettings::new(world.stack.setting("KAFKA_BROKERS"), "test");
    Ok(read_all(&settings, &events(world), Duration::from_secs(30))
        .await?
        .len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_log_is_refused_by_its_setting_and_after_that_by_its_gaps() -> Result<()> {
    let world = World::start()?;
    let (voucher, _) = promised(&world).await?;
    let settings = "cleanup.policy=compact,segment.ms=100,min.cleanable.dirty.ratio=0.001";
    configure(&world, &format!("--add-config {settings}"))?;
    let named = "cleanup.policy is compact, and has to be delete";
    refuses(&world, voucher, &REPAIR, &[named]).await?;

    let before = records(&world).await?;
    let mut user = 4;
    eventually_within(
        Duration::from_secs(120),
        "records were compacted away",
        || {
            user += 1;
            let world = &world;
            async move {
                // A segment ends when the first record arrives after its time.
                if user < 10 {
                    world.client.order(voucher, user, None, 1).await?;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                Ok(records(world).await? < before)
            }
        },
    )
    .await?;
    configure(
        &world,
        "--delete-config segment.ms,min.cleanable.dirty.ratio",
    )?;
    configure(&world, "--add-config cleanup.policy=delete")?;
    world.seckillctl(&["topics", "check"])?;
    world.quiet(voucher).await?;
    let disproves = ["--allow-removal", "of these offsets hold no record"];
    refuses(&world, voucher, &["reconcile"], &disproves).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_cut_at_its_beginning_is_refused() -> Result<()> {
    let world = World::start()?;
    let (voucher, _) = promised(&world).await?;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", world.stack.setting("KAFKA_BROKERS"))
        .create()?;
    let home = ForeignProducer::of(&world)?.home_of(voucher);
    let mut cut = TopicPartitionList::new();
    cut.add_partition_offset(&events(&world), home, Offset::Offset(2))?;
    admin.delete_records(&cut, &AdminOptions::new()).await?;
    let named = format!("partition {home} of the log begins at 2");
    refuses(&world, voucher, &REPAIR, &[&named, "it was cut"]).await
}

// ---------------------------------------------------------------------------------------------------
// A log that is not theirs

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_another_database_is_refused() -> Result<()> {
    let (world, mut other) = (World::start()?, World::start()?);
    promised(&world).await?;
    let (voucher, answers) = promised(&other).await?;
    // Write one record more than the other deployment has folded, so that the end of the log does not show the
    // difference.
    world.sale(SaleTerms::of(10)).await?;
    let mut environment = world.stack.env().clone();
    let url = other.stack.setting("DATABASE_URL").to_owned();
    environment.insert("DATABASE_URL".to_owned(), url);
    let command = [&REPAIR[..], &EXECUTE].concat();
    let refused = |says: String| {
        let told = tokio::task::block_in_place(|| run_binary("seckillctl", &command, &environment));
        let told = format!("{:#}", told.expect_err("it is another deployment's"));
        ensure!(told.contains(&says), "{says:?} in {told}");
        anyhow::Ok(())
    };
    let before = other.contents(voucher).await?;
    refused("DATABASE_URL belongs to another log".to_owned())?;

    // Two deployments whose topics have the same name, on two brokers.
    other.projector.stop()?;
    let pool = other.database().await?;
    sqlx::query("UPDATE view_positions SET topic = $1")
        .bind(events(&world))
        .execute(&pool)
        .await?;
    refused("another log".to_owned())?;
    sqlx::query("UPDATE view_positions SET topic = $1")
        .bind(events(&other))
        .execute(&pool)
        .await?;
    ensure!(
        other.contents(voucher).await? == before,
        "it changed something"
    );
    check_consistency(&other, voucher, &answers).await?;
    Ok(())
}
