//! `docker-compose.yml` configures every service in a way that the service accepts.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use seckill_telemetry::settings::Source;
use serde_yaml_ng::Value;

/// What somebody who starts the containers has to choose, each as long as a secret must be.
const CHOSEN: [&str; 4] = [
    "POSTGRES_PASSWORD",
    "ADMIN_TOKEN",
    "TOKEN_SECRET",
    "PAYMENT_WEBHOOK_SECRET",
];

const STORES: &str = "the file's own stores are on a network of their own, without TLS";

const NO_REGISTRY: &str = "the file has no schema registry";

/// What the containers leave at its default, and why. All else that a service reads, they name.
const DEFAULTED: &[(&str, &str)] = &[
    ("TOPIC_PREFIX", "the cluster is this deployment's own"),
    ("MAX_IN_FLIGHT", "right for most machines"),
    ("INGRESS_WORKERS", "one a core"),
    ("FOLD_BATCH_MAX", "right for most machines"),
    ("KEEP_ALIVE_SECONDS", "no proxy in front"),
    ("DRAIN_DELAY_MS", "nothing routes by /readyz here"),
    ("EXPIRY_POLL_MS", "only tests need another"),
    (
        "LOG_FORMAT",
        "json is for whatever collects the containers' logs",
    ),
    ("KAFKA_SECURITY_PROTOCOL", STORES),
    ("KAFKA_SASL_MECHANISM", STORES),
    ("KAFKA_SASL_USERNAME", STORES),
    ("KAFKA_SASL_PASSWORD", STORES),
    ("KAFKA_SSL_CA_LOCATION", STORES),
    ("KAFKA_SSL_CERTIFICATE_LOCATION", STORES),
    ("KAFKA_SSL_KEY_LOCATION", STORES),
    ("SCHEMA_REGISTRY_URL", NO_REGISTRY),
    ("SCHEMA_REGISTRY_USERNAME", NO_REGISTRY),
    ("SCHEMA_REGISTRY_PASSWORD", NO_REGISTRY),
    ("SCHEMA_REGISTRY_SSL_CA_LOCATION", NO_REGISTRY),
    ("REDIS_SSL_CA_LOCATION", STORES),
    ("REDIS_SSL_CERTIFICATE_LOCATION", STORES),
    ("REDIS_SSL_KEY_LOCATION", STORES),
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
        .map(|name| (name.to_owned(), format!("{name:0>32}")))
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

/// What a service reads, by itself and as all of them do: literals that are named like a setting, in the files
/// that have a settings reader.
fn read_by(service: &str) -> BTreeSet<String> {
    fn files(path: &Path, found: &mut Vec<String>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                files(&entry.unwrap().path(), found);
            }
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(std::fs::read_to_string(path).unwrap());
        }
    }
    let own = format!("services/{service}/src");
    let root = seckill_testkit::workspace_root();
    let mut found = Vec::new();
    for source in [
        &own,
        "crates/stores/src",
        "crates/telemetry/src/logs.rs",
        "crates/telemetry/src/traces.rs",
    ] {
        files(&root.join(source), &mut found);
    }
    // What ends with an underscore is the beginning of names.
    let is_setting = |text: &&str| {
        let is_upper = text.chars().all(|c| c == '_' || c.is_ascii_uppercase());
        let of_the_build = text.starts_with("CARGO_");
        is_upper && text.len() > 3 && !text.ends_with('_') && !of_the_build
    };
    let code = found.iter().filter(|text| text.contains("Reader<"));
    let code = code.filter_map(|text| text.split("#[cfg(test)]").next());
    code.flat_map(|text| text.split('"').skip(1).step_by(2).filter(is_setting))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_setting_that_a_service_reads_is_set_or_left_for_a_reason() {
    let file = compose();
    let text = |path| std::fs::read_to_string(seckill_testkit::workspace_root().join(path));
    let documented = text("docs/configuration.md").unwrap();
    let local = text("xtask/src/settings.rs").unwrap();
    let mut read = BTreeSet::new();
    for service in ["ingress", "projector", "timeout"] {
        let set = environment(&file, service, &chosen()).unwrap();
        let settings = read_by(service);
        assert!(
            settings.contains("KAFKA_BROKERS"),
            "{service}: {settings:?}"
        );
        for name in &settings {
            let left = DEFAULTED.iter().any(|(defaulted, _)| defaulted == name);
            let hint = "name it in docker-compose.yml, or in DEFAULTED with the reason why not";
            assert!(left != set.contains_key(name), "{service}: {name}: {hint}");
            let row = format!("\n| `{name}` |");
            let page = "docs/configuration.md";
            assert!(documented.contains(&row), "{name}: not in {page}");
            let quoted = format!("\"{name}\"");
            assert!(local.contains(&quoted), "{name}: `xtask up` drops it");
        }
        for name in set.keys() {
            assert!(settings.contains(name), "{service} does not read {name}");
        }
        read.extend(settings);
    }
    for (name, _) in DEFAULTED {
        assert!(read.contains(*name), "no service reads {name}");
    }
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
    for service in ["redis", "postgres", "kafka", "mail"] {
        let image = file["services"][service]["image"].as_str().unwrap();
        let (_, tag) = image.split_once(':').unwrap();
        let version = tag.trim_start_matches('v');
        assert!(version.starts_with(|c: char| c.is_ascii_digit()), "{image}");
    }
}
