//! `docker-compose.yml` is one by the Compose specification's own schema, and says nothing that the code does not:
//! commands, settings, ports, health checks.
//!
//! What no test here can see, for want of a container engine: that the images exist and start so, that the image
//! builds, that the users and the missing capabilities suit the images of others, that Compose takes `init`'s image
//! for the others', and that a browser gets through.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use seckill_eventlog::Topics;
use seckill_service::settings::Source;
use serde_yaml_ng::Value;

/// What somebody who starts the containers has to choose, each as long as a secret must be.
const CHOSEN: [&str; 4] = [
    "POSTGRES_PASSWORD",
    "ADMIN_TOKEN",
    "TOKEN_SECRET",
    "PAYMENT_WEBHOOK_SECRET",
];

const STORES: &str = "the file's own stores are on a network of their own, without TLS";

const NO_REGISTRY: &str = "the file's own registry takes anybody, without TLS";

/// Those that run the project's own image, and what of it.
const OURS: [(&str, &str); 4] = [
    ("ingress", "seckill-ingress"),
    ("projector", "seckill-projector"),
    ("timeout", "seckill-timeout"),
    ("payments", "seckill-payment-simulator"),
];

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

type Variables = BTreeMap<String, String>;

fn compose() -> Value {
    let path = seckill_testkit::workspace_root().join("docker-compose.yml");
    let mut file: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // Twice: what is merged merges something itself.
    file.apply_merge().unwrap();
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

fn texts(value: &Value) -> Vec<&str> {
    let list = value.as_sequence().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}

fn read(path: &str) -> String {
    let path = seckill_testkit::workspace_root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Runs a program that has to find nothing wrong.
fn passes(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = [&output.stdout[..], &output.stderr].concat();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(output.status.success(), "{command:?}: {told}");
    told
}

#[test]
fn it_is_a_compose_file_by_the_specifications_own_schema() {
    let check = seckill_testkit::python::tool("check-jsonschema").unwrap();
    let root = seckill_testkit::workspace_root();
    let validate = |file: &Path| {
        let mut command = Command::new(&check);
        command.args(["--builtin-schema", "vendor.compose-spec"]);
        command.arg(file);
        command
    };
    passes(&mut validate(&root.join("docker-compose.yml")));
    // It does look.
    let wrong = tempfile::Builder::new().suffix(".yml").tempfile().unwrap();
    let text = read("docker-compose.yml").replace("cap_drop: [ALL]", "cap_drops: [ALL]");
    std::fs::write(wrong.path(), text).unwrap();
    assert!(!validate(wrong.path()).output().unwrap().status.success());
}

#[test]
fn every_program_takes_the_command_and_the_settings_that_it_gets() {
    let file = compose();
    for (service, program) in OURS {
        assert_eq!(texts(&file["services"][service]["command"]), [program]);
        let mut command = Command::new(seckill_testkit::service::binary(program).unwrap());
        command.arg("--check-config=settings").env_clear();
        let told = passes(command.envs(environment(&file, service, &chosen()).unwrap()));
        let secret = &chosen()["PAYMENT_WEBHOOK_SECRET"];
        assert!(!told.contains(secret.as_str()), "{told}");
    }
    let init = &file["services"]["init"];
    let [_, _, line] = texts(&init["command"])[..] else {
        panic!("{init:?}")
    };
    for one in line.split(" && ") {
        let words: Vec<&str> = one.split(' ').collect();
        let mut command = Command::new(seckill_testkit::service::binary(words[0]).unwrap());
        passes(command.args(&words[1..]).arg("--help").env_clear());
    }
}

#[test]
fn one_service_builds_the_image_and_it_has_every_program() {
    let file = compose();
    let dockerfile = read("Dockerfile");
    let services = file["services"].as_mapping().unwrap();
    let builds = services.iter().filter(|(_, one)| !one["build"].is_null());
    let builds: Vec<_> = builds.filter_map(|(name, _)| name.as_str()).collect();
    assert_eq!(builds, ["init"]);
    for (service, program) in OURS {
        let image = &file["services"][service]["image"];
        assert_eq!(*image, file["services"]["init"]["image"], "{service}");
        assert_eq!(file["services"][service]["pull_policy"], "never");
        let built = format!("target/release/{program}");
        assert!(dockerfile.contains(&built), "{built}");
        assert!(dockerfile.contains(&format!("-p {program}")), "{program}");
    }
    assert!(dockerfile.contains("target/release/seckillctl"));
}

#[test]
fn published_ports_are_those_that_are_listened_to_and_only_the_shops_are_the_worlds() {
    let file = compose();
    let exposed = read("Dockerfile");
    let exposed = exposed.lines().find(|line| line.starts_with("EXPOSE "));
    for (service, _) in OURS {
        let set = environment(&file, service, &chosen()).unwrap();
        let listens = set.iter().filter(|(name, _)| name.ends_with("LISTEN"));
        let ports: BTreeSet<&str> = listens
            .map(|(_, at)| at.split(':').nth(1).unwrap())
            .collect();
        let port = health_port(service).to_string();
        assert!(
            ports.contains(port.as_str()),
            "{service}: {port} of {ports:?}"
        );
        for port in &ports {
            assert!(exposed.unwrap().contains(port), "{service}: {port}");
        }
        for published in texts(&file["services"][service]["ports"]) {
            let to = published.rsplit(':').next().unwrap();
            assert!(ports.contains(to), "{service}: {published}");
        }
    }
    let mut open = BTreeSet::new();
    for (name, service) in file["services"].as_mapping().unwrap() {
        for port in texts(&service["ports"]) {
            if !port.starts_with("127.0.0.1:") {
                open.insert((name.as_str().unwrap(), port));
            }
        }
    }
    let buyers = [
        ("ingress", "8080:8080"),
        ("tls", "443:443"),
        ("tls", "80:80"),
    ];
    assert_eq!(open, buyers.into());
}

#[test]
fn a_consumer_on_this_machine_finds_the_broker_and_the_topic() {
    let file = compose();
    let set = environment(&file, "kafka", &chosen()).unwrap();
    let pairs = |name: &str| -> BTreeMap<String, String> {
        let all = set[name].split(',').map(|one| one.split_once(':').unwrap());
        all.map(|(name, rest)| (name.to_owned(), rest.to_owned()))
            .collect()
    };
    let (listens, told) = (
        pairs("KAFKA_LISTENERS"),
        pairs("KAFKA_ADVERTISED_LISTENERS"),
    );
    let protocols = pairs("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP");
    assert!(
        listens.keys().eq(protocols.keys()),
        "{listens:?} {protocols:?}"
    );
    let [host, broker] = ["HOST", "BROKER"].map(|name| told[name].trim_start_matches("//"));
    assert!(listens["HOST"].ends_with(host.trim_start_matches("127.0.0.1")));
    let published = texts(&file["services"]["kafka"]["ports"]);
    let port = host.rsplit(':').next().unwrap();
    assert_eq!(published, [format!("{host}:{port}")]);
    let brokers = &environment(&file, "ingress", &chosen()).unwrap()["KAFKA_BROKERS"];
    assert_eq!(brokers, broker);
    let readme = read("README.md");
    assert!(readme.contains(&format!("KAFKA_BROKERS={host} ")));
    let outcomes = Topics::new("").outcomes;
    assert!(
        read("examples/outcomes-python/consumer.py").contains(&format!("default=\"{outcomes}\""))
    );
}

#[test]
fn nobody_gains_rights_and_our_own_programs_write_nowhere() {
    let file = compose();
    let ours: Vec<&str> = OURS.iter().map(|(service, _)| *service).collect();
    for (name, service) in file["services"].as_mapping().unwrap() {
        let name = name.as_str().unwrap();
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(
            texts(&service["security_opt"]),
            ["no-new-privileges:true"],
            "{name}"
        );
        let is_ours = name == "init" || ours.contains(&name);
        assert!(!is_ours || service["read_only"] == true, "{name}");
        assert!(!is_ours || service["volumes"].is_null(), "{name}");
        let added = texts(&service["cap_add"]);
        assert!(added.is_empty() || (name == "tls" && added == ["NET_BIND_SERVICE"]));
    }
}

#[test]
fn the_profiles_are_what_they_say() {
    let file = compose();
    let mut profiles: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, service) in file["services"].as_mapping().unwrap() {
        for profile in texts(&service["profiles"]) {
            profiles
                .entry(profile)
                .or_default()
                .push(name.as_str().unwrap());
        }
    }
    let expected = [
        ("observability", vec!["prometheus"]),
        ("registry", vec!["registry"]),
        ("shop", vec!["mail", "payments"]),
        ("tls", vec!["tls"]),
    ];
    assert_eq!(profiles, expected.into());
    for profile in profiles.keys() {
        let told = format!("#   {profile}");
        assert!(read("docker-compose.yml").contains(&told), "{told}");
    }
    let ports = OURS[..3]
        .iter()
        .map(|(name, _)| format!("\"{name}:{}\"", health_port(name)));
    let targets = format!("targets: [{}]", ports.collect::<Vec<_>>().join(", "));
    assert!(
        read("ops/prometheus/prometheus.yml").contains(&targets),
        "{targets}"
    );
    let directory = seckill_testkit::workspace_root().join("ops/prometheus");
    let mut promtool = Command::new("promtool");
    passes(
        promtool
            .args(["check", "config", "prometheus.yml"])
            .current_dir(directory),
    );
    assert!(read("ops/caddy/Caddyfile").contains("reverse_proxy ingress:8080"));
}

#[test]
fn redis_never_evicts_and_every_image_is_pinned() {
    let file = compose();
    let command = texts(&file["services"]["redis"]["command"]).join(" ");
    assert!(
        command.contains("--maxmemory-policy noeviction"),
        "{command}"
    );
    for (name, service) in file["services"].as_mapping().unwrap() {
        let image = service["image"].as_str().unwrap();
        if image == "seckill" {
            continue;
        }
        let (_, tag) = image.split_once(':').unwrap();
        let version = tag.trim_start_matches('v').split('-').next().unwrap();
        let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
        // CVE-2025-49844: a script could leave Lua.
        assert!(name != "redis" || numbers >= vec![7, 4, 6], "{image}");
        assert!(numbers.len() >= 2, "{image}");
    }
}
