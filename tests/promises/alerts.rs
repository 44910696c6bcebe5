//! The alert rules name metrics that the services export.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use seckill_testkit::{Service, http, workspace_root};
use seckill_tests::{ForeignProducer, SaleTerms, World, eventually};
use serde_yaml_ng::Value;

const PREFIX: &str = "seckill_";

/// Every name of ours in a text of rules or of metrics.
fn names(text: &str) -> BTreeSet<String> {
    let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c| !of_name(c))
        .filter(|word| word.starts_with(PREFIX))
        .map(str::to_owned)
        .collect()
}

fn scrape(service: &Service) -> Result<String> {
    let url = service.admin_url();
    let address = url.strip_prefix("http://").context("an address")?.parse()?;
    Ok(http::get(address, "/metrics")?.1)
}

fn expressions() -> Result<Vec<String>> {
    let file = workspace_root().join("ops/prometheus/alerts.yml");
    let rules: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(file)?)?;
    let groups = rules["groups"].as_sequence().context("no groups")?;
    let mut found = Vec::new();
    for rule in groups
        .iter()
        .filter_map(|g| g["rules"].as_sequence())
        .flatten()
    {
        found.push(rule["expr"].as_str().context("no expr")?.to_owned());
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_in_the_rules_is_exported() -> Result<()> {
    let wanted: BTreeSet<String> = expressions()?.iter().flat_map(|expr| names(expr)).collect();
    assert!(wanted.contains("seckill_clock_skew_seconds"), "{wanted:?}");
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    // Counters are there once they have counted.
    ForeignProducer::of(&world)?
        .write_as(voucher, b"garbage")
        .await?;
    eventually("every metric is exported", || async {
        let services = [&world.ingress, &world.projector, &world.timeout];
        let texts = services
            .map(scrape)
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let exported = names(&texts.concat());
        let missing: Vec<_> = wanted.difference(&exported).collect();
        anyhow::ensure!(missing.is_empty(), "not exported: {missing:?}");
        Ok(true)
    })
    .await
}
