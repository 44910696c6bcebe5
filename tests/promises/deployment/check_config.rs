//! `--check-config` prints the settings that a program would use, and checks them at its stores, with the same code as
//! a start.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_eventlog::Topics;
use seckill_testkit::kafka::run_kafka_configs;
use seckill_testkit::service::binary;
use seckill_testkit::wait::wait_for;
use seckill_testkit::{TestStack, fresh_database};
use serde_json::Value;

const SERVICES: [&str; 3] = ["seckill-ingress", "seckill-projector", "seckill-timeout"];
const SECRETS: [&str; 3] = ["ADMIN_TOKEN", "TOKEN_SECRET", "PAYMENT_WEBHOOK_SECRET"];

fn check(stack: &TestStack, program: &str, settings: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(binary(program)?);
    command.arg("--check-config").env_clear().envs(stack.env());
    command.envs(settings.iter().copied());
    Ok(command.output()?)
}

fn printed(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn settings_are_told_with_where_they_come_from_and_no_secret_is() -> Result<()> {
    let stack = TestStack::start()?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "LOG_FORMAT=text\n")?;
    let path = file.path().to_str().context("a path")?;
    let settings = [("CONFIG_FILE", path)];
    for program in SERVICES {
        // It can run beside the service, because it opens no listener.
        let output = check(&stack, program, &settings)?;
        let told = printed(&output);
        assert_eq!(output.status.code(), Some(0), "{program}: {told}");
        let brokers = stack.setting("KAFKA_BROKERS");
        for line in [
            format!("KAFKA_BROKERS={brokers} (environment)"),
            format!("LOG_FORMAT=text ({path})"),
            "KAFKA_SECURITY_PROTOCOL=plaintext (default)".to_owned(),
            "kafka: ok".to_owned(),
            "redis: ok".to_owned(),
            "postgresql: ok".to_owned(),
        ] {
            assert!(told.lines().any(|one| one == line), "{line} in {told}");
        }
        for secret in SECRETS {
            assert!(!told.contains(stack.setting(secret)), "{secret}: {told}");
        }
    }
    Ok(())
}

#[test]
fn every_login_is_redacted() -> Result<()> {
    let stack = TestStack::start()?;
    let settings = [
        ("KAFKA_BROKERS", "127.0.0.1:9"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_plaintext"),
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "shop"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("REDIS_URL", "redis://shop:hunter2@127.0.0.1:9"),
        ("DATABASE_URL", "postgres://shop:hunter2@127.0.0.1:9/shop"),
        ("SCHEMA_REGISTRY_URL", "http://127.0.0.1:9"),
        ("SMTP_URL", "smtps://shop:hunter2@mail.example"),
        ("ADMIN_TOKENS", "kim=hunter2-and-thirty-two-more-characters"),
    ];
    let output = check(&stack, "seckill-ingress", &settings)?;
    let told = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    for line in [
        "KAFKA_SASL_USERNAME=shop (environment)",
        "KAFKA_SASL_PASSWORD=(redacted) (environment)",
        "REDIS_URL=redis://(redacted)@127.0.0.1:9 (environment)",
        "ADMIN_TOKENS=(redacted) (environment)",
    ] {
        assert!(told.lines().any(|one| one == line), "{line} in {told}");
    }
    assert!(!told.contains("hunter2"), "{told}");
    // Each store is checked, also if another one has failed.
    for store in ["kafka: ", "redis: ", "postgresql: ", "schema-registry: "] {
        let said = told.lines().find(|line| line.starts_with(store));
        assert!(
            said.is_some_and(|line| !line.ends_with(": ok")),
            "{store}{told}"
        );
    }
    Ok(())
}

#[test]
fn a_store_that_a_start_would_not_take_is_named_and_so_are_the_others() -> Result<()> {
    let stack = TestStack::start()?;
    let events = Topics::new(stack.setting("TOPIC_PREFIX")).events;
    let brokers = stack.setting("KAFKA_BROKERS");
    run_kafka_configs(&format!(
        "kafka-configs --bootstrap-server {brokers} --alter --entity-type topics \
         --entity-name {events} --add-config cleanup.policy=compact"
    ))?;
    let evicts = ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"];
    stack.redis.cli(&evicts)?;
    let empty = fresh_database()?;
    let url = empty.url();
    // Brokers apply a setting shortly after the controller.
    wait_for("the setting", Duration::from_secs(20), || {
        Ok(stack
            .seckillctl(&["topics", "check"])
            .is_err()
            .then_some(()))
    })?;
    for program in SERVICES {
        let output = check(&stack, program, &[("DATABASE_URL", &url)])?;
        let told = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        for said in [
            "cleanup.policy is compact",
            "kafka-configs --bootstrap-server",
            "maxmemory-policy is allkeys-lru",
            "has not got migration 1: run `seckillctl db migrate`",
        ] {
            assert!(told.contains(said), "{program}: {said} in {told}");
        }
    }
    Ok(())
}

#[test]
fn programs_read_it_as_json_and_mistakes_are_those_of_a_start() -> Result<()> {
    let stack = TestStack::start()?;
    let mut command = Command::new(binary("seckill-timeout")?);
    command.args(["--check-config", "--output", "json"]);
    let output = command.env_clear().envs(stack.env()).output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let stores = told["stores"].as_array().context("stores")?;
    let names: Vec<_> = stores.iter().map(|one| one["name"].as_str()).collect();
    // Where no schema registry is set, none is asked for.
    let expected = ["kafka", "postgresql", "redis"];
    ensure!(names == expected.map(Some), "{told}");
    ensure!(stores.iter().all(|one| one["ok"] == true), "{told}");

    let mistakes = [("EVENT_PARTITIONS", "0"), ("LOG_FORMAT", "xml")];
    for program in SERVICES {
        let output = check(&stack, program, &mistakes)?;
        let told = printed(&output);
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            mistakes.iter().all(|(name, _)| told.contains(name)),
            "{told}"
        );
    }
    Ok(())
}

#[test]
fn the_payment_simulator_asks_whether_its_ingress_is_there() -> Result<()> {
    let stack = TestStack::start()?;
    let nowhere = [("INGRESS_URL", "http://127.0.0.1:9")];
    let output = check(&stack, "seckill-payment-simulator", &nowhere)?;
    let told = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains("INGRESS_URL=http://127.0.0.1:9 (environment)"),
        "{told}"
    );
    assert!(told.contains("ingress: "), "{told}");

    let ingress = stack.start_ingress(&[])?;
    let there = ingress.url();
    let output = check(
        &stack,
        "seckill-payment-simulator",
        &[("INGRESS_URL", &there)],
    )?;
    assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
    Ok(())
}

#[test]
fn a_service_waits_for_the_migrations_that_it_needs() -> Result<()> {
    let stack = TestStack::start()?;
    let empty = fresh_database()?;
    let url = empty.url();
    let database = [("DATABASE_URL", url.as_str())];
    for program in SERVICES {
        let spec = match program {
            "seckill-ingress" => stack.ingress(&database)?,
            "seckill-projector" => stack.projector(&database)?,
            _ => stack.timeout(&database)?,
        };
        let service = seckill_testkit::Service::launch(spec)?;
        let said = "has not got migration";
        wait_for(said, Duration::from_secs(20), || {
            Ok(service.output()?.contains(said).then_some(()))
        })?;
    }
    Ok(())
}
