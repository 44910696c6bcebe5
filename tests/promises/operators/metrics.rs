//! The lists of metrics: all exported metrics are in them, docs/metrics.md is written from them, and no metric has a
//! series for each sale, order or buyer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use seckill_metrics::{Kind, Metric};
use seckill_testkit::{check_written, workspace_root};
use seckill_tests::{SaleTerms, World, eventually, eventually_within, metrics, series};

/// Labels that have few values, which are known in advance.
const LABELS: [&str; 23] = [
    "answer",
    "broker",
    "cause",
    "class",
    "client",
    "decision",
    "dependency",
    "end",
    "invariant",
    "kind",
    "partition",
    "policy",
    "pool",
    "reason",
    "result",
    "route",
    "rule",
    "secret",
    "service",
    "status",
    "version",
    "view",
    "who",
];

fn catalogues() -> Vec<(&'static str, Vec<&'static [Metric]>)> {
    let every = vec![
        seckill_service::metrics::METRICS,
        seckill_service::metrics::PROCESS_METRICS,
    ];
    vec![
        ("Every service", every),
        ("Ingress", seckill_ingress::metrics::all()),
        ("Projector", seckill_projector::metrics::all()),
        ("Timeout service", seckill_timeout::metrics::all()),
    ]
}

fn page() -> Result<String> {
    let mut page = "# Metrics\n\nOn `/metrics` of each service's admin listener, in Prometheus' text format. Written from the \
        services' catalogues (`metrics.rs`) by\n`SECKILL_WRITE=1 cargo test -p seckill-tests --test promises metrics::`. \
        The unit is the end of the name; what has none is a number.\nA histogram is exported as `_bucket`, `_sum` and `_count`. No label \
        names a sale, an order or a buyer: a series more a sale would be\ntens of thousands. \
        Dashboards for Grafana are in [ops/grafana](../ops/grafana): a sale's life, pipeline health, and stores. What one sale came to is in\n\
        `seckillctl sale report`.\n".to_owned();
    for (title, catalogues) in catalogues() {
        write!(
            page,
            "\n## {title}\n\n| Metric | Kind | Labels | Meaning |\n| --- | --- | --- | --- |\n"
        )?;
        for metric in catalogues.into_iter().flatten() {
            let Metric {
                kind,
                name,
                labels,
                help,
            } = metric;
            let kind = format!("{kind:?}").to_lowercase();
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            writeln!(
                page,
                "| `{name}` | {kind} | {} | {help} |",
                labels.join(", ")
            )?;
        }
    }
    Ok(page)
}

#[test]
fn the_page_says_what_the_catalogues_say() -> Result<()> {
    let command = "cargo test -p seckill-tests --test promises metrics::";
    check_written("docs/metrics.md", &page()?, command)
}

/// <https://prometheus.io/docs/practices/naming/>
#[test]
fn names_end_in_their_unit_and_labels_have_few_values() {
    let mut names = BTreeMap::new();
    for metric in catalogues().into_iter().flat_map(|(_, all)| all).flatten() {
        let Metric {
            kind,
            name,
            labels,
            help,
        } = *metric;
        assert!(help.ends_with('.'), "{name}: {help}");
        assert_eq!(kind == Kind::Counter, name.ends_with("_total"), "{name}");
        for label in labels {
            assert!(LABELS.contains(label), "{name}: {label}");
        }
        // The metrics of a library are in the list of each service that uses it. No other metric is in two lists.
        let before = names.insert(name, metric);
        assert!(before.is_none_or(|before| before == metric), "{name} twice");
    }
    assert!(names.len() > 60, "{}", names.len());
}

fn files(directory: &Path, found: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, found)?;
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

#[test]
fn metrics_are_named_in_the_catalogues_only() -> Result<()> {
    let root = workspace_root();
    let mut sources = Vec::new();
    for part in ["crates", "services", "ops"] {
        for package in std::fs::read_dir(root.join(part))? {
            let directory = package?.path().join("src");
            if directory.is_dir() && !directory.starts_with(root.join("crates/metrics")) {
                files(&directory, &mut sources)?;
            }
        }
    }
    assert!(sources.len() > 200, "{} files", sources.len());
    for source in sources {
        let code = std::fs::read_to_string(&source)?;
        for way_past in [
            "metrics::counter!",
            "metrics::gauge!",
            "metrics::histogram!",
            "use metrics::{",
        ] {
            assert!(
                !code.contains(way_past),
                "{way_past} in {}",
                source.display()
            );
        }
    }
    Ok(())
}

/// The names of the labels of a series.
fn labels_of(series: &str) -> BTreeSet<&str> {
    let inside = series.split_once('{').map_or("", |(_, rest)| rest);
    let inside = inside.rsplit_once('}').map_or("", |(inside, _)| inside);
    let pairs = inside.split("\",");
    let names = pairs.filter_map(|pair| pair.split_once("=\""));
    names
        .map(|(name, _)| name)
        .filter(|name| *name != "le")
        .collect()
}

/// Checks that every series of a scrape is in the list, with the kind and the labels of the list.
fn check(text: &str, catalogue: &[&[Metric]]) -> Result<usize> {
    let known: BTreeMap<&str, &Metric> = catalogue
        .iter()
        .copied()
        .flatten()
        .map(|metric| (metric.name, metric))
        .collect();
    let (mut series, mut helped) = (0, BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').context("no help")?;
            helped.insert(name.to_owned(), help.to_owned());
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        series += 1;
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            name.strip_suffix(end)
                .filter(|base| known.contains_key(base))
        });
        let base = base.unwrap_or(name);
        let metric = known
            .get(base)
            .with_context(|| format!("{name} is in no catalogue"))?;
        let expected: BTreeSet<&str> = metric.labels.iter().copied().collect();
        let mut labels = labels_of(line);
        labels.remove("quantile");
        ensure!(labels == expected, "{line}: labels {expected:?}");
        let help = helped.get(base).map(String::as_str);
        ensure!(help == Some(metric.help), "{base}: HELP is {help:?}");
    }
    Ok(series)
}

fn check_all(world: &World) -> Result<usize> {
    let everywhere = [
        seckill_service::metrics::METRICS,
        seckill_service::metrics::PROCESS_METRICS,
    ];
    let services = [
        (&world.ingress, seckill_ingress::metrics::all()),
        (&world.projector, seckill_projector::metrics::all()),
        (&world.timeout, seckill_timeout::metrics::all()),
    ];
    let mut series = 0;
    for (service, mut catalogue) in services {
        catalogue.extend(everywhere);
        series += check(&metrics(service)?, &catalogue)?;
    }
    Ok(series)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_series_that_is_exported_is_in_a_catalogue_with_its_labels_and_meaning() -> Result<()>
{
    let world = World::start()?;
    let voucher = world.sale(SaleTerms::default()).await?;
    assert!(world.client.order(voucher, 1, None, 1).await?.is_reserved());
    let own = [
        "seckill_kafka_broker_rtt_seconds",
        "seckill_database_connections",
        "process_cpu_seconds_total",
        "seckill_build_info",
    ];
    eventually("what is measured every few seconds is there", || async {
        for service in [&world.ingress, &world.projector, &world.timeout] {
            let text = metrics(service)?;
            for name in own {
                ensure!(text.contains(&format!("\n{name}")), "no {name}");
            }
        }
        Ok(true)
    })
    .await?;
    ensure!(check_all(&world)? > 100);
    Ok(())
}

/// More series than are needed for any number of sales, and fewer than one for each of many sales.
const MOST_SERIES: usize = 2_000;
const MANY_SALES: usize = 10_000;
const MANY_LOADS_PATIENCE: Duration = Duration::from_secs(900);

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_sales_make_no_series_of_their_own_and_none_is_loaded_twice() -> Result<()> {
    many_sales(300).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: puts up 10,000 sales"]
async fn ten_thousand_sales_make_no_series_of_their_own_and_none_is_loaded_twice() -> Result<()> {
    many_sales(MANY_SALES).await
}

async fn many_sales(sales: usize) -> Result<()> {
    let world = World::start()?;
    let first = world.sale(SaleTerms::default()).await?;
    assert!(world.client.order(first, 1, None, 1).await?.is_reserved());
    let few = check_all(&world)?;
    let mut last = first;
    let mut left = sales - 1;
    while left > 0 {
        let together = left.min(50);
        let put_up = (0..together).map(|_| world.schedule(SaleTerms::default()));
        let put_up = futures_util::future::try_join_all(put_up).await?;
        last = put_up.into_iter().max().context("no sale")?;
        left -= together;
    }
    eventually_within(MANY_LOADS_PATIENCE, "all sales are loaded", || async {
        // A load that Redis has opened, but with a late answer, counts as failed.
        let loaded = loads(&world, "opened")? + loads(&world, "failed")?;
        Ok(loaded >= sales && value(&world, "seckill_sales_not_served")? == 0)
    })
    .await?;
    assert!(world.client.order(last, 2, None, 1).await?.is_reserved());
    world.quiet(last).await?;
    let many = check_all(&world)?;
    println!("{few} series with one sale, {many} with {sales}");
    ensure!(many <= MOST_SERIES, "{many} series");
    // New series may appear for events that happened for the first time, but not for sales.
    ensure!(many - few < 200, "{few} series became {many}");
    // There is no other loader, so a load that finds the sale open was unnecessary.
    ensure!(
        loads(&world, "overtaken")? == 0,
        "{}",
        metrics(&world.projector)?
    );
    Ok(())
}

/// The number of loads with this result.
fn loads(world: &World, end: &str) -> Result<usize> {
    value(world, &format!("seckill_loads_total{{end=\"{end}\"}}"))
}

/// The value of a series of the projector. 0 if there is none.
fn value(world: &World, name: &str) -> Result<usize> {
    Ok(series(&world.projector, name)?.unwrap_or(0))
}
