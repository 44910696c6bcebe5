//! Orders that nobody pays and that lapse in the same second, with an open event stream for as many of them as there may
//! be: what streams cost while nothing happens, how late the end of an order is told, how fast all units are on sale again,
//! and how soon others can order meanwhile.

mod crowd;
mod placed;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::ProgressBar;
use tokio::task::JoinSet;

use self::crowd::Crowd;
use self::placed::Placed;
use crate::api::{Api, NewSale};
use crate::cpu::{self, CpuTimes};
use crate::credentials;
use crate::environment::Environment;
use crate::latency::{Latencies, milliseconds};
use crate::load::Pace;
use crate::progress::Stage;
use crate::table::{count, render};

/// For how long nothing happens.
const IDLE: Duration = Duration::from_secs(10);
const SALE_DURATION: Duration = Duration::from_secs(3_600);
/// Orders that others place while these expire.
const OTHERS_PER_SECOND: u32 = 1_000;
const ENDED_DEADLINE: Duration = Duration::from_secs(300);
const INGRESS: &str = "seckill-ingress";

/// How many wait.
#[derive(Debug, Clone, Copy, Args)]
pub struct ExpiryOptions {
    /// Orders that are placed at once and never paid
    #[arg(long, default_value_t = 100_000)]
    pub orders: u32,
    /// Streams that are open when they lapse, each of another order; an ingress has at most 10,000
    #[arg(long, default_value_t = 9_900)]
    pub streams: usize,
}

/// Measures and prints.
///
/// # Errors
/// When the stack does not do its part.
pub async fn run(environment: &Environment, options: &ExpiryOptions) -> anyhow::Result<()> {
    let api = Api::new(environment).await?;
    let others = OTHERS_PER_SECOND * u32::try_from(ENDED_DEADLINE.as_secs())?;
    let bearers = credentials::bearers(&environment.token_secret, options.orders + others)?;
    let bearers: Arc<[String]> = bearers.into();
    let placed = Placed::place(&api, options.orders, &bearers).await?;

    let before = cpu::resident_bytes(INGRESS);
    let all = options.streams.min(placed.orders.len());
    let opened = streams::open(&api.public, &placed.orders[..all], &bearers).await?;
    let streams: JoinSet<_> = opened.into_iter().map(streams::told_after).collect();
    let memory = cpu::resident_bytes(INGRESS).saturating_sub(before);
    let processes = cpu::processes();
    tokio::time::sleep(IDLE).await;
    let idle = cpu::used_between(&processes, &cpu::processes());

    ensure!(
        Instant::now() < placed.lapse,
        "placing the orders took longer than they are held"
    );
    tokio::time::sleep_until(placed.lapse.into()).await;
    let processes = cpu::processes();
    let stage = Stage::begin("Expiries", placed.orders.len() as u64);
    let over = AtomicBool::new(false);
    let back = async {
        placed.until_all_are_back(&api, ENDED_DEADLINE).await?;
        over.store(true, Ordering::Relaxed);
        Ok(placed.lapse.elapsed())
    };
    let (took, others) =
        tokio::try_join!(back, others_order(&api, &bearers, options.orders, &over))?;
    let expiring = cpu::used_between(&processes, &cpu::processes());
    stage.done("all units are on sale again");
    let late = streams.join_all().await.into_iter();
    let late: Vec<Duration> = late.collect::<anyhow::Result<_>>()?;
    print(&Measured {
        orders: placed.orders.len(),
        placed: placed.took,
        grace: Duration::from_secs(environment.expiry_grace_seconds),
        streams: all,
        memory,
        idle,
        expiring,
        took,
        late: Latencies::of(late),
        others,
    });
    Ok(())
}

/// Buyers after the first `buyers` order evenly until it is `over`.
async fn others_order(
    api: &Api,
    bearers: &Arc<[String]>,
    buyers: u32,
    over: &AtomicBool,
) -> anyhow::Result<Latencies> {
    let stock = (bearers.len() as u64).saturating_sub(buyers.into());
    let hold_seconds = u32::try_from(SALE_DURATION.as_secs())?;
    let sale = NewSale::from_now("Somebody else's", stock, hold_seconds, SALE_DURATION)?;
    let sale = api.open_sale(&sale).await?;
    let (mut next, mut latencies) = (buyers + 1, Vec::new());
    while !over.load(Ordering::Relaxed) {
        let crowd = Crowd {
            sale,
            buyers: next..=next + OTHERS_PER_SECOND - 1,
            pace: Pace::PerSecond(OTHERS_PER_SECOND.into()),
            time: Duration::from_secs(1),
            bar: ProgressBar::hidden(),
        };
        next += OTHERS_PER_SECOND;
        let ordered = crowd.order(api, bearers).await?;
        latencies.extend(ordered.iter().map(|ordered| ordered.latency));
    }
    api.close_sale(sale).await?;
    Latencies::of(latencies).context("nobody ordered meanwhile")
}

struct Measured {
    orders: usize,
    /// From the first order until all were settled.
    placed: Duration,
    /// Of the timeout service.
    grace: Duration,
    streams: usize,
    memory: u64,
    /// In [`IDLE`].
    idle: CpuTimes,
    expiring: CpuTimes,
    /// From when the first order lapsed until all units were on sale again.
    took: Duration,
    late: Option<Latencies>,
    /// Of orders that others placed meanwhile.
    others: Latencies,
}

fn print(measured: &Measured) {
    let Measured {
        orders, streams, ..
    } = *measured;
    let per_second = |time: Duration| orders as f64 / time.as_secs_f64();
    let (placed, expired) = (
        per_second(measured.placed),
        per_second(measured.took.saturating_sub(measured.grace)),
    );
    println!(
        "\n{} orders were placed and settled, {placed:.0} a second; {} of them have a stream, of {:.1} KiB each.",
        count(orders as u64),
        count(streams as u64),
        measured.memory as f64 / 1024.0 / streams.max(1) as f64,
    );
    println!(
        "They lapsed within a second. All units were on sale again {:.1} s after the first lapsed; without the grace of {} s that \
         is {expired:.0} a second, {:.2} of the rate at which they were placed and settled.",
        measured.took.as_secs_f64(),
        measured.grace.as_secs(),
        expired / placed,
    );
    println!(
        "Meanwhile {} others ordered a second: answered after {} ms at the median, p99 {} ms, at most {} ms.",
        count(OTHERS_PER_SECOND.into()),
        milliseconds(measured.others.p50),
        milliseconds(measured.others.p99),
        milliseconds(measured.others.max),
    );
    if let Some(late) = measured.late {
        println!(
            "Their ends were told {:.2} s after pay_by at the median, p99 {:.2} s, at most {:.2} s; the grace is a part of it.",
            late.p50.as_secs_f64(),
            late.p99.as_secs_f64(),
            late.max.as_secs_f64()
        );
    }
    let mut rows = BTreeMap::new();
    for (name, seconds) in &measured.idle {
        let per_cent = 100.0 * seconds / IDLE.as_secs_f64();
        rows.insert(name, vec![name.clone(), format!("{per_cent:.1}")]);
    }
    for (name, seconds) in &measured.expiring {
        let row = rows
            .entry(name)
            .or_insert_with(|| vec![name.clone(), String::new()]);
        row.push(format!("{:.1}", seconds * 1e6 / orders.max(1) as f64));
    }
    let header = [
        "",
        "% of a core while nothing happens",
        "µs of CPU an expired order",
    ];
    let rows: Vec<_> = std::iter::once(header.map(String::from).to_vec())
        .chain(rows.into_values())
        .collect();
    print!("\n{}", render(&rows));
}
