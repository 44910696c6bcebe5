//! Starts the service, runs it, and stops it in the right order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use seckill_eventlog::EventProducer;
use seckill_orderbook::{Orderbook, OrderbookOptions};
use seckill_service::health::Health;
use seckill_service::ops::Ops;
use seckill_service::{shutdown, traces};
use seckill_stock::{Stock, StockOptions};
use tokio_util::sync::CancellationToken;

use crate::clocks::StoreClocks;
use crate::config::Config;
use crate::expirer::{Expirer, ExpirerOptions};
use crate::metrics;
use crate::preflight;
use crate::worker::{self, Pulse};

/// The most orders in a round: enough for the producer to make batches, and few enough that they are acknowledged
/// long before their claims lapse.
const PAGE_SIZE: u32 = 500;

/// One connection for the rounds, and one more so that a broken connection does not delay them.
const MAX_CONNECTIONS: u32 = 2;

/// This and the statement time-out are together shorter than the time after which a loop counts as stalled.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until `stop` is cancelled. The admin listener runs from the start to the end, so that `/readyz` names what
/// the service is waiting for.
///
/// # Errors
/// When the service is misconfigured, or its admin listener cannot be opened.
pub async fn run(config: &Config, stop: &CancellationToken) -> Result<()> {
    let ops = Ops::install("timeout", &metrics::all()).map_err(anyhow::Error::msg)?;
    config.traces.start("timeout").map_err(anyhow::Error::msg)?;
    let done = CancellationToken::new();
    let upkeep = tokio::spawn(ops.clone().upkeep(done.clone()));
    let health = ops.health.clone();
    let admin = async {
        let served = ops.serve(config.admin_listen, done.clone());
        let server = served.context("TIMEOUT_ADMIN_LISTEN")?;
        server.await.context("the admin listener failed")
    };
    let work = async {
        let worked = work(config, &health, stop).await;
        done.cancel();
        worked
    };
    tokio::try_join!(admin, work)?;
    upkeep.await?;
    traces::finish().await;
    Ok(())
}

/// The stores that the rounds use.
pub struct Stores {
    orderbook: Orderbook,
    stock: Stock,
    producer: Arc<EventProducer>,
    delivery_timeout: Duration,
}

async fn work(config: &Config, health: &Health, stop: &CancellationToken) -> Result<()> {
    let Some(stores) = stop.run_until_cancelled(open(config, health)).await else {
        return Ok(());
    };
    let stores = stores?;
    let expirer = expirer(config, &stores);
    let pulse = Pulse::start();
    let watch = tokio::spawn(pulse.clone().watch(health.clone(), stop.clone()));
    tokio::spawn(end_without_producer(
        Arc::clone(&stores.producer),
        health.clone(),
        stop.clone(),
    ));
    health.resolved("start");
    tracing::info!("expiring what is due");
    worker::run(&expirer, health, &pulse, config.poll_interval, stop).await;
    watch.await?;
    close(stores).await;
    Ok(())
}

/// Ends the process if the producer has failed permanently, because waiting does not help then.
async fn end_without_producer(
    producer: Arc<EventProducer>,
    health: Health,
    stop: CancellationToken,
) {
    if let Some(why) = stop.run_until_cancelled(producer.until_failed()).await {
        health.problem("kafka-client", why.clone());
        shutdown::give_up(&stop, &why);
    }
}

fn expirer(config: &Config, stores: &Stores) -> Expirer<StoreClocks> {
    let clocks = StoreClocks {
        orderbook: stores.orderbook.clone(),
        stock: stores.stock.clone(),
    };
    let options = ExpirerOptions {
        grace: config.grace,
        page_size: PAGE_SIZE,
        claim_for: stores.delivery_timeout * 2,
    };
    let producer = Arc::clone(&stores.producer);
    Expirer::new(stores.orderbook.clone(), producer, clocks, options)
}

/// Connects, and waits for each store that does not answer.
///
/// # Errors
/// Only errors that waiting does not solve.
pub async fn open(config: &Config, health: &Health) -> Result<Stores> {
    let kafka = config.stores.kafka("seckill-timeout");
    let topics = config.stores.topics();
    let orderbook = Orderbook::connect(&OrderbookOptions {
        database_url: config.stores.database_url.expose().to_owned(),
        application_name: "seckill-timeout".to_owned(),
        max_connections: MAX_CONNECTIONS,
        holds_connections: true,
        acquire_timeout: ACQUIRE_TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
        idle_transaction_timeout: STATEMENT_TIMEOUT,
    });
    let orderbook = orderbook.context("DATABASE_URL")?;
    let stock = Stock::new(StockOptions::new(&config.stores.redis)).context("REDIS_URL")?;
    let producer = EventProducer::new(&kafka, &topics, config.stores.kafka.partitions)
        .context("KAFKA_BROKERS")?;
    let producer = Arc::new(producer);

    let topics = (&kafka, &topics, config.stores.kafka.partitions);
    preflight::pass(health, &orderbook, &stock, &producer, topics).await?;
    Ok(Stores {
        orderbook,
        stock,
        producer,
        delivery_timeout: kafka.delivery_timeout,
    })
}

/// The acknowledgements of the last page were waited for, so only events without one are left to flush.
async fn close(stores: Stores) {
    let Stores {
        orderbook,
        producer,
        delivery_timeout,
        ..
    } = stores;
    if let Err(error) = producer.flush(delivery_timeout).await {
        tracing::warn!(%error, "events without acknowledgement; their orders are claimed again");
    }
    orderbook.close().await;
}
