//! A whole sale in under a minute: a rush, payments, lapses, a resale, and then every promise
//! checked from the outside.

pub mod crowd;
pub mod evidence;
pub mod invariants;
pub mod log;
mod options;
mod payments;
mod report;
mod stages;
mod stores;
mod watch;

use std::time::Duration;

use anyhow::Context;
use seckill_domain::partition_of;

use crate::environment::Environment;
use crate::progress::Stage;

use self::evidence::{Evidence, LogView, Restored, Watched};
pub use self::options::DemoOptions;
use self::stages::{Demo, WaveSummary};
use self::watch::Watch;

/// No run takes this long; one that does hangs.
const RUN_DEADLINE: Duration = Duration::from_secs(600);
/// For reading the whole event topic.
const LOG_DEADLINE: Duration = Duration::from_secs(60);
/// A machine too slow to pay in time gets more chances to sell everything.
const RESALES: usize = 4;

/// Runs the demo with options that were checked, and prints what came of it; whether every promise
/// was kept.
///
/// # Errors
/// When it could not be run to its end.
pub async fn run(environment: &Environment, options: &DemoOptions) -> anyhow::Result<bool> {
    tokio::time::timeout(RUN_DEADLINE, sell_and_check(environment, options))
        .await
        .with_context(|| format!("the demo did not end within {RUN_DEADLINE:?}"))?
}

async fn sell_and_check(environment: &Environment, options: &DemoOptions) -> anyhow::Result<bool> {
    eprintln!("Running the sale");
    let mut demo = Demo::open(environment, options).await?;
    let watch = Watch::start(demo.stores.clone());
    let orders = demo.first_wave().await?;
    let late = demo.first_payments(orders).await?;
    let restored = demo.lapse("Unpaid orders lapse").await?;
    demo.late_payments(&late).await?;
    for _ in 0..RESALES {
        if demo.stores.sale().await?.stock_left == 0 {
            break;
        }
        demo.second_wave().await?;
        demo.lapse("Nothing stays unpaid").await?;
    }
    demo.quiet().await;

    let stage = Stage::begin("Checking the promises", 1);
    let evidence = collect(&demo, environment, restored, watch.finish().await?).await?;
    let verdicts = invariants::check(&evidence);
    let kept = verdicts.iter().filter(|verdict| verdict.holds).count();
    stage.done(&format!("{kept} of {} kept", verdicts.len()));
    let ledger = demo.api.ledger(demo.voucher).await?;
    report::print(&demo, environment, &evidence, &ledger, &verdicts);
    let limit = environment.rate_limit_global_per_second;
    let limited = |wave: &WaveSummary| limit == 0 || wave.admitted <= wave.most_admitted(limit);
    Ok(kept == verdicts.len() && demo.waves.iter().all(limited))
}

async fn collect(
    demo: &Demo,
    environment: &Environment,
    restored: Restored,
    watched: Watched,
) -> anyhow::Result<Evidence> {
    Ok(Evidence {
        clicks: demo.clicks.clone(),
        payments: demo.payments.clone(),
        // The log first: whatever it has by now, the tables have to have too.
        log: read_log(demo, environment).await?,
        sale: demo.stores.sale().await?,
        orders: demo.stores.orders().await?,
        refunds: demo.stores.refunds().await?,
        redis: demo.stores.redis_view().await?,
        restored,
        watched,
    })
}

async fn read_log(demo: &Demo, environment: &Environment) -> anyhow::Result<LogView> {
    let stores = &environment.stores;
    let (topics, settings) = (stores.topics(), stores.kafka("seckill-demo"));
    let records = seckill_eventlog::read_all(&settings, &topics.events, LOG_DEADLINE)
        .await
        .context("reading the event topic")?;
    let key = demo.voucher.to_string();
    let partition = partition_of(key.as_bytes(), stores.kafka.partitions);
    let (mut events, mut end_offset) = (Vec::new(), 0);
    for record in records
        .iter()
        .filter(|record| record.partition == partition)
    {
        end_offset = record.offset.next().get();
        if record.key.as_deref() == Some(key.as_bytes()) {
            let event = record.event(stores.kafka.partitions).with_context(|| {
                format!("decoding the event at {partition}/{}", record.offset.get())
            })?;
            events.push((record.offset, event));
        }
    }
    let folded_to = demo.stores.folded_to(&topics.events, partition).await?;
    Ok(log::fold(&events, end_offset, folded_to))
}
