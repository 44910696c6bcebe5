//! What the demo prints at its end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seckill_domain::OrderStatus;

use super::evidence::Evidence;
use super::invariants::Verdict;
use super::stages::Demo;
use crate::answer::Answer;
use crate::api::Ledger;
use crate::environment::{Environment, without_credentials};
use crate::latency::{Latencies, milliseconds};
use crate::table::{count, render};

/// Prints everything: answers, units, latencies, the ledger, the verdicts, and where the services
/// listen.
pub(super) fn print(
    demo: &Demo,
    environment: &Environment,
    evidence: &Evidence,
    ledger: &Ledger,
    verdicts: &[Verdict],
) {
    section("Answers to the clicks", &answers(demo));
    let limit = environment.rate_limit_global_per_second;
    if limit > 0 {
        let title = format!("Let in, at {limit} clicks a second");
        section(&title, &let_in(demo, limit));
    }
    let latency = if cfg!(debug_assertions) {
        "Latency in milliseconds, of a build without optimisation"
    } else {
        "Latency in milliseconds"
    };
    section(latency, &latencies(demo));
    section("Units", &units(evidence));
    section("Refunds due", &refunds(evidence));
    section("Ledger", &ledger_rows(ledger));
    println!("\nPromises");
    for verdict in verdicts {
        let mark = if verdict.holds { '✔' } else { '✘' };
        println!("  {mark} {} {}", verdict.number, verdict.promise);
        println!("      {}", verdict.measured);
        println!("      from: {}", verdict.source);
    }
    println!("\nThe stack listens at");
    for (name, address) in listeners(environment) {
        println!("  {name:<20}  {address}");
    }
}

fn section(title: &str, rows: &[Vec<String>]) {
    print!("\n{title}\n{}", render(rows));
}

fn row<const N: usize>(cells: [String; N]) -> Vec<String> {
    cells.into()
}

fn answers(demo: &Demo) -> Vec<Vec<String>> {
    let kinds: BTreeSet<&String> = demo.waves.iter().flat_map(|w| w.answers.keys()).collect();
    let mut header = vec![String::new()];
    header.extend((1..=demo.waves.len()).map(|wave| format!("wave {wave}")));
    let mut rows = vec![header];
    for kind in kinds {
        let number = |wave: &BTreeMap<String, u64>| count(wave.get(kind).copied().unwrap_or(0));
        let mut cells = vec![kind.clone()];
        cells.extend(demo.waves.iter().map(|wave| number(&wave.answers)));
        rows.push(cells);
    }
    rows
}

fn let_in(demo: &Demo, limit_per_second: u32) -> Vec<Vec<String>> {
    let header = [
        "",
        "seconds",
        "let in",
        "at most",
        "",
        "accepted",
        "accepted/s",
    ];
    let mut rows = vec![row(header.map(String::from))];
    for (position, wave) in demo.waves.iter().enumerate() {
        let (seconds, most) = (
            wave.elapsed.as_secs_f64(),
            wave.most_admitted(limit_per_second),
        );
        let mark = if wave.admitted <= most { '✔' } else { '✘' };
        rows.push(row([
            format!("wave {}", position + 1),
            format!("{seconds:.1}"),
            count(wave.admitted),
            count(most),
            mark.to_string(),
            count(wave.accepted),
            format!("{:.1}", wave.accepted as f64 / seconds),
        ]));
    }
    rows
}

fn latencies(demo: &Demo) -> Vec<Vec<String>> {
    let mut rows = vec![row(["", "p50", "p90", "p99", "max"].map(String::from))];
    let mut add = |what: String, latencies: Option<Latencies>| {
        if let Some(Latencies { p50, p90, p99, max }) = latencies {
            let mut cells = vec![what];
            cells.extend([p50, p90, p99, max].map(milliseconds));
            rows.push(cells);
        }
    };
    for (position, wave) in demo.waves.iter().enumerate() {
        add(format!("orders, wave {}", position + 1), wave.latencies);
    }
    let webhooks: Vec<Duration> = demo.webhook_latencies.clone();
    add("payment webhooks".to_owned(), Latencies::of(webhooks));
    rows
}

fn units(evidence: &Evidence) -> Vec<Vec<String>> {
    let resold: BTreeSet<_> = evidence
        .clicks
        .iter()
        .filter(|click| click.wave > 1 && matches!(click.answer, Answer::Reserved(_)))
        .filter_map(|click| click.answer.order_id())
        .collect();
    let units = |status| evidence.units(status).to_string();
    vec![
        row(["on sale".to_owned(), evidence.stock().to_string()]),
        row(["sold and paid".to_owned(), units(OrderStatus::Paid)]),
        row(["expired".to_owned(), units(OrderStatus::Expired)]),
        row(["sold again".to_owned(), resold.len().to_string()]),
        row(["left over".to_owned(), evidence.sale.stock_left.to_string()]),
    ]
}

fn refunds(evidence: &Evidence) -> Vec<Vec<String>> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for refund in &evidence.refunds {
        *reasons.entry(&refund.reason).or_default() += 1;
    }
    let reasons = reasons.into_iter();
    reasons
        .map(|(reason, number)| row([reason.to_owned(), count(number)]))
        .collect()
}

fn ledger_rows(ledger: &Ledger) -> Vec<Vec<String>> {
    let known = |units: Option<i64>| units.map_or_else(|| "unknown".to_owned(), |u| u.to_string());
    let cells = [
        ("initial", ledger.initial.to_string()),
        ("adjusted", ledger.adjusted.to_string()),
        ("available", ledger.available.to_string()),
        ("redis_available", known(ledger.redis_available)),
        ("held", known(ledger.held)),
        ("unpaid", ledger.unpaid.to_string()),
        ("paid", ledger.paid.to_string()),
        ("in_flight", known(ledger.in_flight)),
        ("drift", known(ledger.drift)),
    ];
    vec![
        cells.iter().map(|(name, _)| (*name).to_owned()).collect(),
        cells.into_iter().map(|(_, value)| value).collect(),
    ]
}

fn listeners(environment: &Environment) -> [(&'static str, String); 7] {
    let http = |address: &str| format!("http://{address}");
    let stores = &environment.stores;
    [
        ("buyers' API", environment.ingress_url.clone()),
        ("admin API, metrics", environment.ingress_admin_url.clone()),
        ("projector's metrics", http(&environment.projector_admin)),
        ("timeout's metrics", http(&environment.timeout_admin)),
        ("Kafka", stores.kafka.brokers.clone()),
        ("Redis", without_credentials(&stores.redis.url)),
        (
            "PostgreSQL",
            without_credentials(stores.database_url.expose()),
        ),
    ]
}
