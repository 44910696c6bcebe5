//! Orders that nobody pays, with an open event stream for as many of them as there may be: what streams cost while
//! nothing happens, how late the end of an order is told, and when all units are on sale again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::Args;
use seckill_domain::{OrderId, VoucherId};
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::{Api, NewSale};
use crate::client::Endpoint;
use crate::cpu::{self, CpuTimes};
use crate::credentials;
use crate::environment::Environment;
use crate::latency::Latencies;
use crate::load::{Load, Pace};
use crate::orders::{Click, OrderCalls};
use crate::progress::{Stage, Wait, wait_for};
use crate::table::{count, render};

const CONNECTIONS: usize = 128;
/// More time than it takes to place the orders and to open the streams.
const HOLD_SECONDS: u32 = 75;
/// For how long nothing happens.
const IDLE: Duration = Duration::from_secs(10);
const SALE_DURATION: Duration = Duration::from_secs(3_600);
/// Streams that are being opened at a time.
const OPENING: usize = 64;
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

/// The lines of an open stream.
type Events = Lines<BufReader<TcpStream>>;

/// What a stream says of its order.
#[derive(Deserialize)]
struct Status {
    status: String,
    #[serde(with = "time::serde::rfc3339")]
    pay_by: OffsetDateTime,
}

/// Measures and prints.
///
/// # Errors
/// When the stack does not do its part.
pub async fn run(environment: &Environment, options: &ExpiryOptions) -> anyhow::Result<()> {
    let api = Api::new(environment).await?;
    let bearers: Arc<[String]> =
        credentials::bearers(&environment.token_secret, options.orders)?.into();
    let sale = NewSale::from_now(
        "Nobody pays",
        options.orders.into(),
        HOLD_SECONDS,
        SALE_DURATION,
    )?;
    let sale = api.open_sale(&sale).await?;
    let (orders, placed) = place(&api, sale, &bearers).await?;

    let before = cpu::resident_bytes(INGRESS);
    let all = options.streams.min(orders.len());
    let opened = open_streams(&api.public, &orders[..all], &bearers).await?;
    let streams: JoinSet<_> = opened.into_iter().map(told_after).collect();
    let memory = cpu::resident_bytes(INGRESS).saturating_sub(before);
    let processes = cpu::processes();
    tokio::time::sleep(IDLE).await;
    let idle = cpu::used_between(&processes, &cpu::processes());

    let lapse = placed + Duration::from_secs(HOLD_SECONDS.into());
    ensure!(
        Instant::now() < lapse,
        "placing the orders took longer than they are held"
    );
    tokio::time::sleep_until(lapse.into()).await;
    let processes = cpu::processes();
    let stage = Stage::begin("Expiries", orders.len() as u64);
    wait_for(
        "all units to be on sale again",
        ENDED_DEADLINE,
        async || {
            let ledger = api.ledger(sale).await?;
            Ok(
                if ledger.is_at_rest() && ledger.available == ledger.initial {
                    Wait::Over(())
                } else {
                    Wait::On(format!("the ledger says {ledger:?}"))
                },
            )
        },
    )
    .await?;
    let took = lapse.elapsed();
    let expiring = cpu::used_between(&processes, &cpu::processes());
    stage.done("all units are on sale again");
    let late = streams.join_all().await.into_iter();
    let late: Vec<Duration> = late.collect::<anyhow::Result<_>>()?;
    print(&Measured {
        orders: orders.len(),
        streams: all,
        memory,
        idle,
        expiring,
        took,
        late: Latencies::of(late),
    });
    Ok(())
}

/// Each order with its buyer, from 1, and when the first was placed.
async fn place(
    api: &Api,
    sale: VoucherId,
    bearers: &Arc<[String]>,
) -> anyhow::Result<(Vec<(OrderId, u32)>, Instant)> {
    let stage = Stage::begin("Orders", bearers.len() as u64);
    let buyers = 1..=u32::try_from(bearers.len())?;
    let clicks: Vec<Click> = buyers.map(|buyer| Click::of(buyer, 1)).collect();
    let calls = OrderCalls::new(&api.public, &[sale], Arc::clone(bearers), clicks.clone());
    let load = Load {
        endpoint: Arc::clone(&api.public),
        connections: CONNECTIONS,
        pace: Pace::WhenAnswered,
        stop_after: Duration::from_secs(HOLD_SECONDS.into()),
        bar: stage.bar().clone(),
    };
    let begun = Instant::now();
    let run = load.run(Arc::new(calls)).await?;
    let placed = run.samples.iter();
    let placed: Vec<(OrderId, u32)> = placed
        .filter_map(|sample| Some((sample.answer.order_id()?, clicks[sample.index].user)))
        .collect();
    ensure!(
        placed.len() == clicks.len(),
        "only {} orders were taken",
        placed.len()
    );
    stage.done(&format!("{} placed", count(placed.len() as u64)));
    Ok((placed, begun))
}

/// Opens a stream of each of the orders.
async fn open_streams(
    endpoint: &Arc<Endpoint>,
    orders: &[(OrderId, u32)],
    bearers: &[String],
) -> anyhow::Result<Vec<Events>> {
    let stage = Stage::begin("Streams", orders.len() as u64);
    let opening = Arc::new(Semaphore::new(OPENING));
    let mut tasks = JoinSet::new();
    for (order, buyer) in orders {
        let mut request = endpoint.request_head("GET", &format!("/api/v1/orders/{order}/events"));
        let bearer = &bearers[*buyer as usize - 1];
        request.extend_from_slice(format!("authorization: {bearer}\r\n\r\n").as_bytes());
        let (endpoint, opening) = (Arc::clone(endpoint), Arc::clone(&opening));
        tasks.spawn(async move {
            let _turn = opening.acquire().await?;
            let mut stream = TcpStream::connect(endpoint.address()).await?;
            stream.write_all(&request).await?;
            let mut events = BufReader::new(stream).lines();
            let first = events.next_line().await?.unwrap_or_default();
            ensure!(first.contains(" 200 "), "a stream was refused: {first}");
            anyhow::Ok(events)
        });
    }
    let mut opened = Vec::with_capacity(orders.len());
    while let Some(events) = tasks.join_next().await {
        opened.push(events??);
    }
    stage.done(&format!("{} open", count(opened.len() as u64)));
    Ok(opened)
}

/// Reads until the order has expired: how long after its `pay_by` it was told.
async fn told_after(mut events: Events) -> anyhow::Result<Duration> {
    while let Some(line) = events.next_line().await? {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let said: Status = serde_json::from_str(data).context("an event")?;
        if said.status == "expired" {
            let late = OffsetDateTime::now_utc() - said.pay_by;
            return Ok(late.try_into().unwrap_or_default());
        }
    }
    bail!("a stream ended before its order")
}

struct Measured {
    orders: usize,
    streams: usize,
    memory: u64,
    /// In [`IDLE`].
    idle: CpuTimes,
    expiring: CpuTimes,
    /// From when the first order lapsed until all units were on sale again.
    took: Duration,
    late: Option<Latencies>,
}

fn print(measured: &Measured) {
    let Measured {
        orders, streams, ..
    } = *measured;
    println!(
        "\n{} orders, {} streams of {:.1} KiB. All units were on sale again {:.1} s after the first order lapsed.",
        count(orders as u64),
        count(streams as u64),
        measured.memory as f64 / 1024.0 / streams.max(1) as f64,
        measured.took.as_secs_f64()
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
