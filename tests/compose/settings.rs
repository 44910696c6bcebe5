//! The settings that the containers get are those that the services read.

use std::collections::BTreeSet;
use std::path::Path;

use seckill_service::settings::Source;

use crate::{CHOSEN, chosen, compose, environment, health_port};

const STORES: &str = "the file's own stores are on a network of their own, without TLS";

const NO_REGISTRY: &str = "the file's own registry takes anybody, without TLS";

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
    ("SCHEMA_REGISTRY_USERNAME", NO_REGISTRY),
    ("SCHEMA_REGISTRY_PASSWORD", NO_REGISTRY),
    ("SCHEMA_REGISTRY_SSL_CA_LOCATION", NO_REGISTRY),
    ("REDIS_SSL_CA_LOCATION", STORES),
    ("REDIS_SSL_CERTIFICATE_LOCATION", STORES),
    ("REDIS_SSL_KEY_LOCATION", STORES),
];

fn source(service: &str) -> Source {
    let environment = environment(&compose(), service, &chosen()).unwrap();
    environment.into_iter().collect()
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
        "crates/service/src/logs.rs",
        "crates/service/src/traces.rs",
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
