//! The alert rules use metrics that the services export, fire when they should, and link to a runbook.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use seckill_testkit::workspace_root;
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually, metrics};
use serde_yaml_ng::Value;

const PREFIX: &str = "seckill_";

/// All names of the project's metrics in a text of rules or of metrics.
fn names(text: &str) -> BTreeSet<String> {
    let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c| !of_name(c))
        .filter(|word| word.starts_with(PREFIX))
        .map(str::to_owned)
        .collect()
}

/// The rules of a rule file for Prometheus.
fn rules() -> Result<Vec<Value>> {
    let file = workspace_root().join("ops/prometheus/alerts.yml");
    let rules: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file)?)?;
    let groups = rules["groups"].as_sequence().context("no groups")?;
    let rules = groups
        .iter()
        .filter_map(|group| group["rules"].as_sequence());
    Ok(rules.flatten().cloned().collect())
}

fn text(rule: &Value) -> Result<&str> {
    rule.as_str().context("no text")
}

fn expressions() -> Result<Vec<String>> {
    let rules = rules()?;
    let expressions = rules.iter().map(|rule| text(&rule["expr"]));
    expressions.map(|expr| Ok(expr?.to_owned())).collect()
}

/// promtool checks `alerts_test.yml`, in which each rule fires and does not fire.
#[test]
fn every_rule_fires_when_it_should_and_only_then() -> Result<()> {
    let directory = workspace_root().join("ops/prometheus");
    let ran = std::process::Command::new("promtool")
        .args(["test", "rules", "alerts_test.yml"])
        .current_dir(&directory)
        .output()
        .context("promtool, of Debian's package prometheus")?;
    let (out, errors) = (
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr),
    );
    ensure!(ran.status.success(), "{out}{errors}");

    let tests = std::fs::read_to_string(directory.join("alerts_test.yml"))?;
    let tests: Value = serde_yaml_ng::from_str(&tests)?;
    let tests = tests["tests"].as_sequence().context("no tests")?;
    let looks = tests
        .iter()
        .filter_map(|test| test["promql_expr_test"].as_sequence());
    let mut seen = BTreeSet::new();
    for look in looks.flatten() {
        let alert = text(&look["expr"])?.split('"').nth(1).context("no alert")?;
        let samples = look["exp_samples"].as_sequence().context("no samples")?;
        seen.insert((alert.to_owned(), !samples.is_empty()));
    }
    for rule in rules()? {
        let alert = text(&rule["alert"])?;
        for fires in [true, false] {
            ensure!(
                seen.contains(&(alert.to_owned(), fires)),
                "no test in which {alert} fires: {fires}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_rule_says_who_gets_up_and_links_to_what_there_is_to_do() -> Result<()> {
    for rule in rules()? {
        let alert = text(&rule["alert"])?;
        let severity = text(&rule["labels"]["severity"])?;
        ensure!(
            ["critical", "warning"].contains(&severity),
            "{alert}: {severity}"
        );
        let url = text(&rule["annotations"]["runbook_url"])?;
        let (file, anchor) = url.split_once('#').context("no anchor")?;
        let page = std::fs::read_to_string(workspace_root().join(file))?;
        let section = page.split(&format!("\n## {alert}\n")).nth(1);
        let section = section.with_context(|| format!("{alert}: no section in {file}"))?;
        ensure!(anchor == alert.to_lowercase(), "{alert}: {url}");
        let said = section.trim_start().to_lowercase();
        ensure!(
            said.starts_with(&format!("*{severity}.*")),
            "{alert}: not {severity} in {file}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_in_the_rules_is_exported() -> Result<()> {
    let wanted: BTreeSet<String> = expressions()?.iter().flat_map(|expr| names(expr)).collect();
    assert!(wanted.contains("seckill_clock_skew_seconds"), "{wanted:?}");
    let world = World::with(&[
        ("ADMIN_ISSUER", "https://login.invalid"),
        ("ADMIN_AUDIENCE", "operators"),
    ])?;
    let voucher = world.sale(SaleTerms::default()).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    // A counter is exported only after it has counted something.
    ForeignProducer::of(&world)?
        .write_as(voucher, b"garbage")
        .await?;
    eventually("every metric is exported", || async {
        let services = [&world.ingress, &world.projector, &world.timeout];
        let texts = services
            .map(metrics)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let exported = names(&texts.concat());
        let missing: Vec<_> = wanted.difference(&exported).collect();
        ensure!(missing.is_empty(), "not exported: {missing:?}");
        Ok(true)
    })
    .await
}
