//! The dashboards: Grafana accepts them, and their queries have results in a Prometheus that scrapes the services.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_testkit::ports::free_port;
use seckill_testkit::process::Process;
use seckill_testkit::scratch::scratch_dir;
use seckill_testkit::workspace_root;
use seckill_tests::{ForeignProducer, SaleTerms, Trade, World, eventually_within};
use serde_json::Value;
use tempfile::TempDir;

use crate::kafka::consumers::toolchains::npm_packages;
use crate::operators::sale_report::report;

/// The columns of a dashboard's grid.
const COLUMNS: u64 = 24;
const UNITS: [&str; 6] = ["reqps", "ops", "s", "short", "bytes", "percentunit"];

fn dashboards() -> Result<BTreeMap<String, Value>> {
    let directory = workspace_root().join("ops/grafana");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().context("no name")?.to_string_lossy();
        let text = std::fs::read_to_string(&path)?;
        found.insert(name.into_owned(), serde_json::from_str(&text)?);
    }
    ensure!(found.len() == 3, "{:?}", found.keys());
    Ok(found)
}

fn list<'a>(value: &'a Value, member: &str) -> Result<&'a Vec<Value>> {
    value[member].as_array().with_context(|| member.to_owned())
}

/// The queries, each with the name of its panel.
fn queries() -> Result<Vec<(String, String)>> {
    let mut queries = Vec::new();
    for (name, dashboard) in dashboards()? {
        for panel in list(&dashboard, "panels")? {
            for target in list(panel, "targets")? {
                let of = format!("{name}: {}", panel["title"]);
                let query = target["expr"].as_str().context("no query")?;
                queries.push((of, query.to_owned()));
            }
        }
    }
    Ok(queries)
}

/// The cells of the grid that a panel covers.
fn cells(panel: &Value) -> Result<Vec<(u64, u64)>> {
    let side = |name: &str| panel["gridPos"][name].as_u64().context("no side");
    let (x, y, w, h) = (side("x")?, side("y")?, side("w")?, side("h")?);
    ensure!(w > 0 && h > 0 && x + w <= COLUMNS, "{}", panel["gridPos"]);
    Ok((x..x + w)
        .flat_map(|x| (y..y + h).map(move |y| (x, y)))
        .collect())
}

#[test]
fn grafana_can_take_them_and_no_panel_hides_another() -> Result<()> {
    let mut uids = BTreeSet::new();
    for (name, dashboard) in dashboards()? {
        ensure!(dashboard["schemaVersion"].as_u64() >= Some(39), "{name}");
        ensure!(uids.insert(dashboard["uid"].to_string()), "{name}: uid");
        let variables = list(&dashboard["templating"], "list")?;
        ensure!(
            variables.len() == 1
                && variables[0]["name"] == "datasource"
                && variables[0]["type"] == "datasource"
                && variables[0]["query"] == "prometheus",
            "{name}"
        );
        let (mut ids, mut covered) = (BTreeSet::new(), BTreeSet::new());
        for panel in list(&dashboard, "panels")? {
            let title = &panel["title"];
            ensure!(
                ids.insert(panel["id"].as_u64().context("no id")?),
                "{title}"
            );
            ensure!(panel["type"] == "timeseries", "{title}");
            ensure!(panel["description"].is_string(), "{title}");
            let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
            ensure!(
                unit.is_some_and(|unit| UNITS.contains(&unit)),
                "{title}: {unit:?}"
            );
            for cell in cells(panel)? {
                ensure!(covered.insert(cell), "{title} lies on another at {cell:?}");
            }
            let mut names = BTreeSet::new();
            for target in list(panel, "targets")? {
                ensure!(names.insert(target["refId"].to_string()), "{title}: refId");
                for of in [target, panel] {
                    ensure!(of["datasource"]["uid"] == "${datasource}", "{title}");
                }
            }
        }
    }
    Ok(())
}

/// Checks the types of the dashboards with TypeScript, in a folder that has Grafana's types.
fn types(directory: &Path, dashboards: &BTreeMap<String, Value>) -> Result<Output> {
    let mut typed = "import type { Typed } from './types';\n".to_owned();
    for (name, dashboard) in dashboards {
        writeln!(typed, "export const {name}: Typed = {dashboard:#};")?;
    }
    std::fs::write(directory.join("typed.ts"), typed)?;
    let mut tsc = Command::new("npx");
    Ok(tsc.arg("tsc").current_dir(directory).output()?)
}

#[test]
#[ignore = "long: fetches Grafana's types"]
fn grafanas_own_types_take_them_and_not_what_is_misspelled() -> Result<()> {
    let from = workspace_root().join("tests/promises/operators/dashboards");
    let directory = scratch_dir("dashboards")?;
    for file in std::fs::read_dir(from)? {
        let file = file?;
        std::fs::copy(file.path(), directory.path().join(file.file_name()))?;
    }
    npm_packages(directory.path())?;
    let mut dashboards = dashboards()?;
    let typed = types(directory.path(), &dashboards)?;
    ensure!(typed.status.success(), "{typed:?}");
    let sale = dashboards.get_mut("sale").context("no sale")?;
    sale["panels"][0]["options"]["legend"]["displayMode"] = "lists".into();
    sale["panels"][1]["heading"] = "Orders".into();
    let typed = types(directory.path(), &dashboards)?;
    let said = String::from_utf8_lossy(&typed.stdout);
    ensure!(!typed.status.success(), "{said}");
    for wrong in ["\"lists\"", "heading"] {
        ensure!(said.contains(wrong), "{wrong}: {said}");
    }
    Ok(())
}

#[test]
fn every_metric_that_they_name_is_documented() -> Result<()> {
    let page = std::fs::read_to_string(workspace_root().join("docs/metrics.md"))?;
    let mut seen = BTreeSet::new();
    for (of, query) in queries()? {
        let of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let words = query.split(|c| !of_name(c));
        let is_metric = |word: &&str| ["seckill_", "process_"].iter().any(|p| word.starts_with(p));
        for word in words.filter(is_metric) {
            let base = ["_bucket", "_sum", "_count"];
            let base = base.iter().find_map(|end| word.strip_suffix(end));
            let documented = |name: &str| page.contains(&format!("| `{name}` |"));
            ensure!(
                documented(word) || base.is_some_and(documented),
                "{of}: {word} is not in docs/metrics.md"
            );
            seen.insert(word.to_owned());
        }
    }
    ensure!(seen.len() > 30, "{seen:?}");
    Ok(())
}

/// Debian's Prometheus, which scrapes the services of a world. Killed when dropped.
struct Prometheus {
    port: u16,
    _process: Process,
    _directory: TempDir,
}

impl Prometheus {
    fn of(world: &World) -> Result<Self> {
        let directory = scratch_dir("prometheus")?;
        let port = free_port()?;
        let mut config =
            "global: { scrape_interval: 500ms, scrape_timeout: 500ms }\nscrape_configs:\n  \
            - job_name: seckill\n    static_configs:\n      - targets:\n"
                .to_owned();
        for service in [&world.ingress, &world.projector, &world.timeout] {
            let url = service.admin_url();
            let address = url.strip_prefix("http://").context("an address")?;
            writeln!(config, "          - {address}")?;
        }
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, config)?;
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = directory.path().join("log");
        let process = Process::spawn("prometheus", &command, &log)?;
        Ok(Self {
            port,
            _process: process,
            _directory: directory,
        })
    }

    /// Whether the result of a query is a number.
    async fn answers(&self, query: &str) -> Result<bool> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let encoded = query.bytes().map(|byte| format!("%{byte:02X}"));
        let request = reqwest::Client::new()
            .post(url)
            .header("Content-Type", "application/x-www-form-urlencoded")
            .body(format!("query={}", encoded.collect::<String>()));
        let answer: Value = request.send().await?.json().await?;
        ensure!(answer["status"] == "success", "{query}: {answer}");
        let samples = list(&answer["data"], "result")?;
        let number = |sample: &Value| {
            let value = sample["value"][1].as_str();
            value.and_then(|value| value.parse::<f64>().ok())
        };
        Ok(samples.iter().filter_map(number).any(f64::is_finite))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_theirs_and_of_a_report_has_an_answer_while_a_sale_runs() -> Result<()> {
    let world = World::with(&[("EXPIRY_GRACE_SECONDS", "1")])?;
    let prometheus = Prometheus::of(&world)?;
    // An unreadable record: it is skipped, and its dead letter is published.
    let voucher = world.sale(SaleTerms::default()).await?;
    ForeignProducer::of(&world)?
        .write_as(voucher, b"garbage")
        .await?;
    let trade = Trade::begin(&world).await?;
    let queries = queries()?;
    ensure!(queries.len() > 40, "{} queries", queries.len());
    eventually_within(
        Duration::from_secs(120),
        "every query has an answer",
        || async {
            // A request for the shop, which is answered from the cache.
            world.client.get(1, "/api/v1/vouchers").await?;
            let mut silent = Vec::new();
            for (of, query) in &queries {
                // The value that Grafana uses for this scrape interval.
                let query = query.replace("$__rate_interval", "20s");
                if !prometheus.answers(&query).await? {
                    silent.push(format!("{of}: {query}"));
                }
            }
            ensure!(silent.is_empty(), "no answer:\n{}", silent.join("\n"));
            Ok(true)
        },
    )
    .await?;
    let printed = report(&world, trade.voucher, &["--output", "json"])?;
    let asked: Value = serde_json::from_str(&printed)?;
    for name in ["answers", "latency"] {
        let query = asked["of_all_sales"][name].as_str().context("no query")?;
        ensure!(prometheus.answers(query).await?, "no answer: {query}");
    }
    Ok(())
}
