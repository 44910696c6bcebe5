//! `docker-compose.yml` configures every service in a way that the service accepts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use seckill_telemetry::settings::Source;
use serde_yaml_ng::Value;

/// What somebody who starts the containers has to choose, each as long as a secret must be.
const CHOSEN: [&str; 4] = [
    "POSTGRES_PASSWORD",
    "ADMIN_TOKEN",
    "TOKEN_SECRET",
    "PAYMENT_WEBHOOK_SECRET",
];

type Variables = BTreeMap<String, String>;

fn compose() -> Value {
    let path = seckill_testkit::workspace_root().join("docker-compose.yml");
    let mut file: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    file.apply_merge().unwrap();
    file
}

fn chosen() -> Variables {
    CHOSEN
        .map(|name| {
            (
                name.to_owned(),
                "0123456789abcdef0123456789abcdef".to_owned(),
            )
        })
        .into()
}

/// The environment of a container, or what compose would refuse it for.
fn environment(file: &Value, service: &str, variables: &Variables) -> Result<Variables, String> {
    let environment = file["services"][service]["environment"]
        .as_mapping()
        .unwrap();
    environment
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                other => panic!("{service}: {name:?} is {other:?}"),
            };
            let value = interpolate(&text, variables)?;
            Ok((name.as_str().unwrap().to_owned(), value))
        })
        .collect()
}

/// Compose's `${NAME:?message}` and `${NAME:-default}`.
fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    let Some((before, rest)) = text.split_once("${") else {
        return Ok(text.to_owned());
    };
    let (expression, after) = rest.split_once('}').unwrap();
    let (name, otherwise) = expression.split_once(':').unwrap();
    let value = match (variables.get(name), otherwise.split_at(1)) {
        (Some(value), _) => value.clone(),
        (None, ("-", default)) => default.to_owned(),
        (None, (_, message)) => return Err(message.to_owned()),
    };
    Ok(format!("{before}{value}{}", interpolate(after, variables)?))
}

fn source(service: &str) -> Source {
    let environment = environment(&compose(), service, &chosen()).unwrap();
    environment.into_iter().collect()
}

/// The port that the container's health check asks.
fn health_port(service: &str) -> u16 {
    let file = compose();
    let test = file["services"][service]["healthcheck"]["test"]
        .as_sequence()
        .unwrap();
    assert_eq!(test[1].as_str(), Some("healthcheck"));
    test[2].as_str().unwrap().parse().unwrap()
}

#[test]
fn the_ingress_accepts_its_environment() {
    let config = seckill_ingress::config::Config::load(&source("ingress")).unwrap();
    assert_eq!(config.admin_listen.port(), health_port("ingress"));
    // Published ports lead nowhere else.
    assert!(config.listen.ip().is_unspecified());
    assert!(config.admin_listen.ip().is_unspecified());
}

#[test]
fn the_projector_accepts_its_environment() {
    let config = seckill_projector::config::Config::load(&source("projector")).unwrap();
    assert_eq!(config.admin_listen.port(), health_port("projector"));
}

#[test]
fn the_timeout_service_accepts_its_environment() {
    let config = seckill_timeout::config::Config::load(&source("timeout")).unwrap();
    assert_eq!(config.admin_listen.port(), health_port("timeout"));
}

#[test]
fn no_secret_has_a_default() {
    let file = compose();
    for missing in CHOSEN {
        let mut variables = chosen();
        variables.remove(missing);
        let refused = environment(&file, "ingress", &variables);
        assert_eq!(refused, Err(format!("set {missing}")));
    }
}

#[test]
fn redis_never_evicts_and_every_image_is_pinned() {
    let file = compose();
    let command = serde_yaml_ng::to_string(&file["services"]["redis"]["command"]).unwrap();
    assert!(command.contains("noeviction"), "{command}");
    for service in ["redis", "postgres", "kafka"] {
        let image = file["services"][service]["image"].as_str().unwrap();
        let (_, tag) = image.split_once(':').unwrap();
        assert!(tag.starts_with(|c: char| c.is_ascii_digit()), "{image}");
    }
}
