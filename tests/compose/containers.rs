//! What the file says of each container: image, command, ports, rights, profiles.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use seckill_eventlog::Topics;
use seckill_testkit::postgres::SALE_SETTINGS;
use seckill_testkit::redis::REWRITE_FROM;

use crate::{OURS, chosen, compose, environment, health_port, passes, read, texts};

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

#[test]
fn containers_local_stack_and_document_have_the_same_settings_for_a_sale() {
    let file = compose();
    let command = |store: &str| texts(&file["services"][store]["command"]).join(" ");
    let document = read("docs/deployment.md");
    let (_, section) = document.split_once("\n## For a sale\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();

    for setting in SALE_SETTINGS {
        assert!(command("postgres").contains(&format!("-c {setting}")));
        let (name, value) = setting.split_once('=').unwrap();
        assert!(section.contains(&format!("`{name} = {value}`")), "{name}");
    }
    assert!(command("redis").contains(&REWRITE_FROM.join(" ")));
    let [name, value] = REWRITE_FROM;
    let line = format!("`{} {value}`", name.trim_start_matches("--"));
    assert!(section.contains(&line), "{line}");
}
