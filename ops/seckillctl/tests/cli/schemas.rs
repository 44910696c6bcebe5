//! `schemas`: what a pipeline goes by, its exit status.

use std::process::Output;

use seckill_testkit::SchemaRegistry;

use crate::{seckillctl, stderr, stdout};

const SUBJECT: &str = "seckill.order-events.v1-seckill.v1.SeckillReserved";
/// Of the same name, and without a field that ours has.
const ANOTHER: &str = r#"{"type":"record","name":"SeckillReserved","namespace":"seckill.v1",
    "fields":[{"name":"of_somebody_else","type":"string"}]}"#;

fn schemas(command: &str, registry: &SchemaRegistry) -> Output {
    let url = registry.url();
    seckillctl(
        &["schemas", command],
        &[
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("SCHEMA_REGISTRY_URL", &url),
        ],
    )
}

#[test]
fn what_is_not_registered_yet_fits_and_is_registered_once() {
    let registry = SchemaRegistry::start().unwrap();
    let before = stdout(&schemas("check", &registry));
    assert!(before.contains("fits, not registered yet"), "{before}");
    for command in ["register", "register", "check"] {
        let after = stdout(&schemas(command, &registry));
        assert!(!after.contains("not registered"), "{command}: {after}");
    }
}

#[test]
fn where_one_does_not_fit_the_status_is_1_and_nothing_is_registered() {
    let registry = SchemaRegistry::start().unwrap();
    registry.add(SUBJECT, ANOTHER).unwrap();
    for command in ["check", "register", "check"] {
        let output = schemas(command, &registry);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let told = stderr(&output);
        let what = "1 of the schemas do not fit what is registered";
        assert!(told.contains(what), "{command}: {told}");
        let table = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            table.contains("fits, not registered yet"),
            "{command}: {table}"
        );
    }
}

#[test]
fn a_registry_that_is_away_is_named_with_status_1_and_none_at_all_with_2() {
    let mut registry = SchemaRegistry::start().unwrap();
    registry.go_away();
    let output = schemas("check", &registry);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&registry.url()), "{told}");

    let output = seckillctl(&["schemas", "check"], &[("KAFKA_BROKERS", "127.0.0.1:1")]);
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("SCHEMA_REGISTRY_URL is not set"), "{told}");
}
