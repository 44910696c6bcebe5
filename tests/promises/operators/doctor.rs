//! `seckillctl doctor` names every problem of the stores, and the command that it prints solves the problem.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_eventlog::Topics;
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::service::binary;
use seckill_testkit::wait::wait_for;
use seckill_testkit::{Redis, RedisCluster, SchemaRegistry, Sentinels, TestStack};
use seckill_tests::{SaleTerms, World};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// The output of the doctor, and its exit status.
struct Visit {
    findings: Vec<Value>,
    status: Option<i32>,
}

fn visit_with(stack: &TestStack, settings: &[(&str, &str)]) -> Result<Visit> {
    let output = Command::new(binary("seckillctl")?)
        .args(["doctor", "--output", "json"])
        .env_clear()
        .envs(stack.env())
        .envs(settings.iter().copied())
        .output()?;
    let told: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let findings = told["findings"].as_array().context("a list")?.clone();
    let status = output.status.code();
    Ok(Visit { findings, status })
}

fn visit(stack: &TestStack) -> Result<Visit> {
    visit_with(stack, &[])
}

impl Visit {
    fn wrong(&self) -> Vec<&Value> {
        let findings = self.findings.iter();
        findings.filter(|row| row["state"] == "wrong").collect()
    }

    /// Checks that this is the only problem. Returns the command that solves it.
    fn only(&self, what: &str) -> Result<String> {
        let wrong = self.wrong();
        let is_it = matches!(wrong[..], [one] if one["what"] == what);
        ensure!(is_it && self.status == Some(1), "{what}: {wrong:#?}");
        let mend = wrong[0]["mended_by"].as_str();
        Ok(mend.context("a command")?.to_owned())
    }

    fn is_good(&self) -> Result<()> {
        let wrong = self.wrong();
        ensure!(wrong.is_empty() && self.status == Some(0), "{wrong:#?}");
        Ok(())
    }
}

/// Runs a command in a shell, as an operator would do.
fn run(command: &str) -> Result<()> {
    let words: Vec<&str> = command.split(' ').collect();
    let output = Command::new(words[0]).args(&words[1..]).output()?;
    ensure!(output.status.success(), "{command}: {output:?}");
    Ok(())
}

#[test]
fn a_deployment_as_it_has_to_be_has_nothing_wrong() -> Result<()> {
    let stack = TestStack::start()?;
    let visit = visit(&stack)?;
    visit.is_good()?;
    for (store, what) in [
        ("kafka", "topics"),
        ("kafka", "cluster id"),
        ("redis", "maxmemory-policy"),
        ("redis", "writes"),
        ("postgresql", "migrations"),
        ("postgresql", "pooler"),
        ("log", "identity"),
        ("log", "schemas"),
        ("clocks", "postgresql against redis"),
        ("clocks", "postgresql against this machine"),
    ] {
        let mut findings = visit.findings.iter();
        let found = findings.find(|row| row["store"] == store && row["what"] == what);
        let state = found.map(|row| &row["state"]);
        ensure!(
            state.is_some_and(|state| state == "ok"),
            "{store} {what}: {state:?}"
        );
    }
    let table = stack.seckillctl(&["doctor"])?;
    ensure!(table.starts_with("STATE"), "{table}");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_topic_is_mended_by_the_command_that_is_named() -> Result<()> {
    let stack = TestStack::start()?;
    let events = Topics::new(stack.setting("TOPIC_PREFIX")).events;
    let brokers = stack.setting("KAFKA_BROKERS");
    run_kafka_configs(&format!(
        "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics \
         --entity-name {events} --add-config retention.ms=604800000"
    ))?;
    // Brokers apply a setting shortly after the controller.
    let mend = wait_for("the wrong setting", PATIENCE, || {
        Ok(visit(&stack)?.only(&events).ok())
    })?;
    run_kafka_configs(&mend)?;
    wait_for("the right setting", PATIENCE, || {
        Ok(visit(&stack)?.is_good().ok())
    })?;

    let other = visit_with(&stack, &[("EVENT_PARTITIONS", "5")])?;
    let wrong = other.wrong();
    ensure!(wrong.iter().any(|row| row["what"] == *events), "{wrong:#?}");
    Ok(())
}

#[test]
fn topics_that_are_missing_are_made_by_the_command_that_is_named() -> Result<()> {
    let stack = TestStack::start()?;
    let prefix = format!("{}more.", stack.setting("TOPIC_PREFIX"));
    let there = [("TOPIC_PREFIX", prefix.as_str())];
    let visit = visit_with(&stack, &there)?;
    let events = Topics::new(&prefix).events;
    let wrong = visit.wrong();
    let missing = wrong.iter().find(|row| row["what"] == *events);
    let mend = missing.context("the topic")?["mended_by"].as_str();
    let mend = mend.context("a command")?.replace("COPIES", "1");
    let words: Vec<&str> = mend.split(' ').skip(1).collect();
    let mut create = Command::new(binary("seckillctl")?);
    create.args(words).env_clear().envs(stack.env()).envs(there);
    let output = create.output()?;
    ensure!(output.status.success(), "{output:?}");
    visit_with(&stack, &there)?.is_good()
}

#[test]
fn a_redis_that_evicts_or_loses_a_cut_off_masters_orders_is_mended_by_the_command_that_is_named()
-> Result<()> {
    let stack = TestStack::start()?;
    for policy in ["allkeys-lru", "volatile-ttl"] {
        stack
            .redis
            .cli(&["CONFIG", "SET", "maxmemory-policy", policy])?;
        run(&visit(&stack)?.only("maxmemory-policy")?)?;
        visit(&stack)?.is_good()?;
    }
    let replica = seckill_testkit::Redis::start()?;
    replica.cli(&["REPLICAOF", "127.0.0.1", &stack.redis.port().to_string()])?;
    wait_for("the replica", PATIENCE, || {
        let info = stack.redis.cli(&["INFO", "replication"])?;
        Ok(info.contains("connected_slaves:1").then_some(()))
    })?;
    run(&visit(&stack)?.only("min-replicas-to-write")?)?;
    // Redis counts its replicas once a second.
    wait_for("the replica to count", PATIENCE, || {
        Ok(visit(&stack)?.is_good().ok())
    })
}

#[test]
fn migrations_that_are_missing_are_made_by_the_command_that_is_named() -> Result<()> {
    let stack = TestStack::start()?;
    let database = seckill_testkit::fresh_database()?;
    let url = database.url();
    let there = [("DATABASE_URL", url.as_str())];
    let visit = visit_with(&stack, &there)?;
    let wrong = visit.wrong();
    let row = wrong.iter().find(|row| row["what"] == "migrations");
    let row = row.context("the migrations")?;
    ensure!(row["mended_by"] == "seckillctl db migrate", "{row}");
    let mut migrate = Command::new(binary("seckillctl")?);
    migrate.args(["db", "migrate"]);
    let output = migrate.env_clear().envs(stack.env()).envs(there).output()?;
    ensure!(output.status.success(), "{output:?}");
    visit_with(&stack, &there)?.is_good()
}

#[test]
fn schemas_that_a_registry_lacks_are_registered_by_the_command_that_is_named() -> Result<()> {
    let mut registry = SchemaRegistry::start()?;
    let stack = TestStack::builder()
        .setting("SCHEMA_REGISTRY_URL", &registry.url())
        .start()?;
    let mends = |what| {
        let mend = visit(&stack)?.only(what)?;
        let words: Vec<&str> = mend.split(' ').skip(1).collect();
        stack.seckillctl(&words)?;
        visit(&stack)?.is_good()
    };
    mends("subjects")?;
    let topics = Topics::new(stack.setting("TOPIC_PREFIX"));
    let subject = format!("{}-seckill.v1.OrderPaid", topics.events);
    registry.demand(&subject, "BACKWARD");
    mends("subjects")?;

    registry.add(
        &subject,
        r#"{"type":"record","name":"OrderPaid","fields":[]}"#,
    )?;
    visit(&stack)?.only(&subject)?;
    registry.go_away();
    visit(&stack)?.only("answer")?;
    Ok(())
}

#[test]
fn stores_that_are_away_are_named_all_at_once() -> Result<()> {
    let stack = TestStack::start()?;
    let nowhere = [
        ("KAFKA_BROKERS", "127.0.0.1:9"),
        ("REDIS_URL", "redis://127.0.0.1:9"),
        ("DATABASE_URL", "postgres://shop:hunter2@127.0.0.1:9/shop"),
    ];
    let visit = visit_with(&stack, &nowhere)?;
    ensure!(visit.status == Some(1));
    let told = format!("{:?}", visit.findings);
    ensure!(!told.contains("hunter2"), "{told}");
    for store in ["kafka", "redis", "postgresql"] {
        let wrong = visit.wrong();
        let row = wrong.iter().find(|row| row["store"] == store);
        let mend = row.with_context(|| store.to_owned())?["mended_by"].as_str();
        ensure!(mend.is_some_and(|mend| !mend.is_empty()), "{store}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_this_version_cannot_read_is_named_before_it_is_rolled_out() -> Result<()> {
    let mut world = World::start()?;
    let voucher = world.sale(SaleTerms::of(5)).await?;
    world.quiet(voucher).await?;
    world.projector.stop()?;
    ensure!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    let earlier = (
        "SECKILL_FAILPOINTS",
        "eventlog.lacks.SeckillReserved=return",
    );
    let looked = tokio::task::block_in_place(|| visit_with(&world.stack, &[earlier]))?;
    let mend = looked.only("schemas")?;
    ensure!(mend.contains("seckillctl dlq skip "), "{mend}");
    tokio::task::block_in_place(|| visit(&world.stack))?.is_good()
}

/// Sets a wrong value at one master, and checks that the printed command corrects it, at the port where the deployment
/// finds that master.
fn is_found_and_mended(
    stack: &TestStack,
    (master, port): (&Redis, u16),
    setting: [&str; 2],
) -> Result<()> {
    visit(stack)?.is_good()?;
    master.cli(&[&["CONFIG", "SET"][..], &setting].concat())?;
    let mend = visit(stack)?.only(setting[0])?;
    let of_it = mend.contains(&format!(" -p {port} "));
    ensure!(of_it, "not of the master that it is about: {mend}");
    run(&mend)?;
    visit(stack)?.is_good()
}

fn shapes(visit: &Visit) -> Vec<&str> {
    let rows = visit.findings.iter().filter(|row| row["what"] == "shape");
    rows.filter_map(|row| row["found"].as_str()).collect()
}

#[test]
#[ignore = "long: six servers have to find each other"]
fn each_master_of_a_cluster_is_looked_at() -> Result<()> {
    let redis = RedisCluster::start(1_500)?;
    let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
    let stack = stores.start()?;
    let found = visit(&stack)?;
    ensure!(
        shapes(&found) == ["a Cluster's master, 1 replicas"; 3],
        "{:?}",
        found.findings
    );
    let master = redis.node(1);
    let setting = ["maxmemory-policy", "allkeys-lru"];
    is_found_and_mended(&stack, (master, master.port()), setting)
}

#[test]
#[ignore = "long: sentinels have to find each other"]
fn the_master_that_sentinels_name_is_looked_at() -> Result<()> {
    let redis = Sentinels::start(3)?;
    let stores = TestStack::builder().setting("REDIS_URL", &redis.url());
    let stack = stores.start()?;
    let found = visit(&stack)?;
    let named = shapes(&found);
    ensure!(
        matches!(named[..], [one] if one.starts_with("with Sentinel, ")),
        "{named:?}"
    );
    let number = redis.master()?.context("no master is named")?;
    let master = (redis.server(number), redis.wire(number).port());
    is_found_and_mended(&stack, master, ["min-replicas-to-write", "0"])
}
