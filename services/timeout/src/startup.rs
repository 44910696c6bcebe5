//! Puts the service together, runs it, and takes it down in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use seckill_eventlog::{EventProducer, KafkaSettings, TopicError, Topics, check_partitions};
use seckill_orderbook::{Orderbook, OrderbookOptions};
use seckill_stock::{Stock, StockError, StockOptions};
use seckill_telemetry::health::Health;
use seckill_telemetry::ops::Ops;
use tokio_util::sync::CancellationToken;

use crate::clocks::StoreClocks;
use crate::config::Config;
use crate::expirer::{Expirer, ExpirerOptions};
use crate::worker::{self, Pulse};

/// Orders in a round: enough for the producer to batch, few enough to be acknowledged long before
/// their claims lapse.
const PAGE_SIZE: u32 = 500;

/// One for the rounds; one more so that a connection that broke does not delay them.
const MAX_CONNECTIONS: u32 = 2;

/// Together shorter than the time after which a loop counts as stalled.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Runs until `stop` is cancelled. The admin listener is there from the start to the end, so that
/// `/readyz` says what the service is waiting for.
///
/// # Errors
/// When the service is misconfigured, or its admin listener cannot be opened.
pub async fn run(config: &Config, stop: &CancellationToken) -> Result<()> {
    let ops = Ops::install().map_err(anyhow::Error::msg)?;
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
    Ok(())
}

/// What the rounds are made with.
struct Stores {
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
    health.resolved("start");
    tracing::info!("expiring what is due");
    worker::run(&expirer, health, &pulse, config.poll_interval, stop).await;
    watch.await?;
    close(stores).await
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

/// Connects, and waits for each store that is away; gives up only on what waiting cannot mend.
async fn open(config: &Config, health: &Health) -> Result<Stores> {
    let kafka = KafkaSettings::new(&config.kafka_brokers, "seckill-timeout");
    let topics = Topics::new(&config.topic_prefix);
    let orderbook = Orderbook::connect(&OrderbookOptions {
        database_url: config.database_url.expose().to_owned(),
        application_name: "seckill-timeout".to_owned(),
        max_connections: MAX_CONNECTIONS,
        holds_connections: true,
        acquire_timeout: ACQUIRE_TIMEOUT,
        statement_timeout: STATEMENT_TIMEOUT,
        idle_transaction_timeout: STATEMENT_TIMEOUT,
    });
    let orderbook = orderbook.context("DATABASE_URL")?;
    let stock = Stock::new(StockOptions::new(config.redis_url.expose())).context("REDIS_URL")?;
    let producer = EventProducer::new(&kafka, &topics).context("KAFKA_BROKERS")?;
    let producer = Arc::new(producer);

    wait_for(health, "kafka", async || {
        let checked = check_partitions(&kafka, &topics, config.event_partitions).await;
        checked.map_err(|error| match error {
            TopicError::Partitions { .. } => Unfit::ForGood(error.into()),
            // A broker that has just started may not know its topics yet.
            _ => Unfit::ForNow(error.into()),
        })?;
        warm_up(&producer, kafka.delivery_timeout).await
    })
    .await?;
    wait_for(health, "redis", async || {
        stock.check_server().await.map_err(|error| match error {
            StockError::Misconfigured(_) => Unfit::ForGood(error.into()),
            _ => Unfit::ForNow(error.into()),
        })
    })
    .await?;
    wait_for(health, "postgres", async || {
        let answered = orderbook.ping().await;
        answered.map_err(|error| Unfit::ForNow(error.into()))
    })
    .await?;
    Ok(Stores {
        orderbook,
        stock,
        producer,
        delivery_timeout: kafka.delivery_timeout,
    })
}

async fn warm_up(producer: &Arc<EventProducer>, timeout: Duration) -> Result<(), Unfit> {
    let producer = Arc::clone(producer);
    let warm = tokio::task::spawn_blocking(move || producer.warm_up(timeout)).await;
    warm.context("the producer's first contact was broken off")
        .and_then(|contact| Ok(contact?))
        .map_err(Unfit::ForNow)
}

/// Why a store cannot be used.
enum Unfit {
    /// It may come.
    ForNow(anyhow::Error),
    /// Somebody has to change something.
    ForGood(anyhow::Error),
}

/// Asks until a store is fit for use; meanwhile `condition` keeps the service from being ready.
async fn wait_for(
    health: &Health,
    condition: &'static str,
    ask: impl AsyncFn() -> Result<(), Unfit>,
) -> Result<()> {
    loop {
        match ask().await {
            Ok(()) => {
                health.resolved(condition);
                return Ok(());
            }
            Err(Unfit::ForGood(error)) => return Err(error),
            Err(Unfit::ForNow(error)) => {
                health.problem(condition, format!("{error:#}"));
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

/// The last page was waited for, so nothing is left to flush but what had no acknowledgement.
async fn close(stores: Stores) -> Result<()> {
    let Stores {
        orderbook,
        producer,
        delivery_timeout,
        ..
    } = stores;
    let flushed = tokio::task::spawn_blocking(move || producer.flush(delivery_timeout)).await;
    if let Err(error) = flushed.map_err(|e| anyhow!(e))? {
        tracing::warn!(%error, "events without acknowledgement; their orders are claimed again");
    }
    orderbook.close().await;
    Ok(())
}
