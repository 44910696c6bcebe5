//! The Helm chart: its values fit its schema, its settings are those of docs/configuration.md, and Kubernetes and the
//! programs accept what it renders.
//!
//! Not tested here, because it needs a cluster: that pods start, that a network plug-in applies the policies, and that
//! KEDA and the Prometheus operator understand their resources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use seckill_testkit::service::binary;
use seckill_testkit::{python, workspace_root};
use serde::Deserialize;
use serde_yaml_ng::Value;

/// Built from its Go module.
const HELM: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";
const KUBERNETES: &str = "1.34";
const EVERYTHING: &str = "ci/everything-values.yaml";

fn chart() -> PathBuf {
    workspace_root().join("ops/helm/seckill")
}

fn yaml(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(serde_yaml_ng::from_str(&text)?)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let [out, errors] =
        [output.stdout, output.stderr].map(|o| String::from_utf8_lossy(&o).into_owned());
    ensure!(output.status.success(), "{command:?}: {out}{errors}");
    Ok(out)
}

fn names(map: &Value) -> Vec<&str> {
    let entries = map.as_mapping().into_iter().flatten();
    entries.filter_map(|(name, _)| name.as_str()).collect()
}

#[test]
fn every_setting_of_the_chart_is_one_of_the_documented() -> Result<()> {
    let documented = fs::read_to_string(workspace_root().join("docs/configuration.md"))?;
    let mut seen = 0;
    for file in ["values.yaml", EVERYTHING] {
        let values = yaml(&chart().join(file))?;
        let services = &values["services"];
        let parts = names(services).into_iter().map(|name| &services[name]);
        for part in parts.chain([&values, &values["jobs"]]) {
            for name in [names(&part["settings"]), names(&part["secrets"])].concat() {
                let row = format!("\n| `{name}` |");
                ensure!(documented.contains(&row), "{file}: {name}");
                seen += 1;
            }
        }
    }
    ensure!(seen > 15, "{seen}");
    Ok(())
}

#[test]
fn values_are_held_to_their_schema_and_secrets_are_no_settings() -> Result<()> {
    let check = python::tool("check-jsonschema")?;
    let validate = |values: &Path| {
        let mut command = Command::new(&check);
        command
            .arg("--schemafile")
            .arg(chart().join("values.schema.json"));
        command.arg(values);
        command
    };
    run(&mut validate(&chart().join("values.yaml")))?;
    let defaults = fs::read_to_string(chart().join("values.yaml"))?;
    for wrong in [
        "TOKEN_SECRET: x",
        "DATABASE_URL: x",
        "INGRESS_LISTEN: x",
        "kafka: x",
    ] {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        let values = defaults.replacen("settings:\n", &format!("settings:\n  {wrong}\n"), 1);
        fs::write(file.path(), values)?;
        let output = validate(file.path()).output()?;
        ensure!(!output.status.success(), "{wrong} was taken");
    }
    Ok(())
}

/// When a pod is deleted, it first keeps serving until proxies know of it, then ends in an orderly way, and is killed
/// only after that.
#[test]
fn a_pod_has_the_time_that_its_end_takes() -> Result<()> {
    let values = yaml(&chart().join("values.yaml"))?;
    let seconds = |name: &str| values[name].as_u64().with_context(|| name.to_owned());
    let source = fs::read_to_string(workspace_root().join("crates/service/src/shutdown.rs"))?;
    let orderly_end = source
        .split("ORDERLY_END: Duration = Duration::from_secs(")
        .nth(1);
    let orderly_end = orderly_end.and_then(|rest| rest.split(')').next());
    let orderly_end: u64 = orderly_end.context("ORDERLY_END")?.parse()?;
    let documented = fs::read_to_string(workspace_root().join("docs/configuration.md"))?;
    let drain = documented.split("| `DRAIN_DELAY_MS` | ").nth(1);
    let drain = drain.and_then(|rest| rest.split(' ').next());
    let drain_ms: u64 = drain.context("DRAIN_DELAY_MS")?.parse()?;
    let (before, grace) = (
        seconds("preStopSeconds")?,
        seconds("terminationGracePeriodSeconds")?,
    );
    // The time to drain is a part of the time for the orderly end.
    ensure!(drain_ms < orderly_end * 1_000 / 2);
    ensure!(
        before >= 5 && before + orderly_end < grace,
        "{before} {orderly_end} {grace}"
    );
    Ok(())
}

fn helm() -> Result<PathBuf> {
    let directory = workspace_root().join("target/helm");
    let version = HELM.rsplit('@').next().unwrap_or_default();
    let program = directory.join(version).join("helm");
    if !program.is_file() {
        fs::create_dir_all(&directory)?;
        let mut install = Command::new("go");
        install
            .args(["install", HELM])
            .env("GOBIN", directory.join(version));
        run(&mut install).context("Helm is built from its Go module: go 1.24 or newer")?;
    }
    Ok(program)
}

fn render(helm: &Path, more: &[&str]) -> Result<String> {
    let mut template = Command::new(helm);
    let version = format!("{KUBERNETES}.0");
    template.args(["template", "shop", "--kube-version", &version]);
    template.arg(chart()).args(more);
    run(&mut template)
}

fn resources(rendered: &str) -> Result<Vec<Value>> {
    let documents = serde_yaml_ng::Deserializer::from_str(rendered);
    let values = documents.map(Value::deserialize);
    let values: Result<Vec<Value>, _> = values.collect();
    Ok(values?.into_iter().filter(|one| !one.is_null()).collect())
}

/// A secret that the programs accept, for a secret of a cluster.
fn secret(name: &str) -> String {
    match name {
        "DATABASE_URL" => "postgres://shop:hunter2@db:5432/shop".to_owned(),
        "REDIS_URL" => "redis://:hunter2@redis:6379".to_owned(),
        "SMTP_URL" => "smtps://shop:hunter2@mail.example".to_owned(),
        _ => format!("{name:0>40}"),
    }
}

/// Runs a container's program with the settings and arguments that it would get.
fn takes_its_settings(container: &Value, pod: &Value) -> Result<()> {
    let command: Vec<String> = serde_yaml_ng::from_value(container["command"].clone())?;
    let directory = tempfile::tempdir()?;
    let mut env = BTreeMap::new();
    for one in container["env"].as_sequence().context("env")? {
        let name = one["name"].as_str().context("a name")?;
        let value = one["value"].as_str().context("a text")?;
        let Some(setting) = name.strip_suffix("_FILE") else {
            env.insert(name.to_owned(), value.to_owned());
            continue;
        };
        let mounted = serde_yaml_ng::to_string(&pod["volumes"])?;
        ensure!(
            mounted.contains(&format!("path: {setting}\n")),
            "{setting}: {mounted}"
        );
        ensure!(
            value == format!("/run/secrets/seckill/{setting}"),
            "{value}"
        );
        let file = directory.path().join(setting);
        fs::write(&file, secret(setting))?;
        env.insert(name.to_owned(), file.display().to_string());
    }
    let mut program = Command::new(binary(&command[0])?);
    program.env_clear().envs(&env);
    if command[0] == "seckillctl" {
        // Its settings are the services'.
        run(program.args(&command[1..]).arg("--help"))?;
        program = Command::new(binary("seckill-timeout")?);
        program.env_clear().envs(&env);
        program.args(["--check-config=settings"]);
    }
    let told = run(program.arg("--check-config=settings"))?;
    ensure!(!told.contains("hunter2"), "{told}");
    Ok(())
}

fn check(rendered: &str) -> Result<BTreeMap<String, usize>> {
    let validate = python::tool("kubernetes-validate")?;
    let mut kinds = BTreeMap::new();
    for resource in resources(rendered)? {
        let kind = resource["kind"].as_str().context("a kind")?;
        *kinds.entry(kind.to_owned()).or_insert(0) += 1;
        let pod = &resource["spec"]["template"]["spec"];
        for container in pod["containers"].as_sequence().into_iter().flatten() {
            takes_its_settings(container, pod).with_context(|| rendered.to_owned())?;
        }
        // These are not resources of Kubernetes itself, and their schemas are not available here.
        if matches!(kind, "ServiceMonitor" | "ScaledObject") {
            continue;
        }
        let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
        fs::write(file.path(), serde_yaml_ng::to_string(&resource)?)?;
        let mut command = Command::new(&validate);
        command
            .args(["--strict", "-k", KUBERNETES])
            .arg(file.path());
        run(&mut command)?;
    }
    Ok(kinds)
}

fn number_of(kinds: &BTreeMap<String, usize>, kind: &str) -> usize {
    kinds.get(kind).copied().unwrap_or(0)
}

#[test]
#[ignore = "long: builds Helm from its Go module"]
fn what_it_renders_is_taken_by_kubernetes_and_by_the_programs() -> Result<()> {
    let helm = helm()?;
    run(Command::new(&helm)
        .args(["lint", "--strict"])
        .arg(chart())
        .args(["--set", "settings.KAFKA_BROKERS=kafka:9092"]))?;
    let defaults = render(&helm, &["--set", "settings.KAFKA_BROKERS=kafka:9092"])?;
    let kinds = check(&defaults)?;
    for (kind, number) in [
        ("Deployment", 3),
        ("PodDisruptionBudget", 3),
        ("NetworkPolicy", 3),
        ("Job", 2),
        ("Service", 4),
        ("ScaledObject", 0),
    ] {
        ensure!(number_of(&kinds, kind) == number, "{kind}: {kinds:?}");
    }
    let everything = chart().join(EVERYTHING);
    let everything = everything.to_str().context("a path")?;
    let rendered = render(&helm, &["--values", everything])?;
    let kinds = check(&rendered)?;
    ensure!(number_of(&kinds, "ScaledObject") == 2 && number_of(&kinds, "ServiceMonitor") == 1);
    for said in [
        "consumerGroup: shop.seckill-projector",
        "topic: shop.seckill.order-events.v1",
        "type: cron",
        "image: \"registry.example/seckill:0.2.0\"",
        "command: [\"seckillctl\",\"topics\",\"create\",\"--replication\",\"3\"]",
        "mountPath: /etc/seckill/kafka-ca",
    ] {
        ensure!(rendered.contains(said), "{said} in {rendered}");
    }
    // Only a deployment that is scaled has no fixed number of replicas.
    ensure!(
        rendered.matches("\n  replicas: ").count() == 1,
        "{rendered}"
    );
    let too_many = [
        "--values",
        everything,
        "--set",
        "keda.maxReplicas.projector=25",
    ];
    ensure!(
        render(&helm, &too_many).is_err(),
        "more members than partitions"
    );
    Ok(())
}
