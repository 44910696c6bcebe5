//! Puts the projector together, runs it, and ends it in order.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use seckill_domain::Offset;
use seckill_ephemeral::{Ephemeral, SharedCache};
use seckill_eventlog::{
    Assignment, ConsumerOptions, EventProducer, KafkaSettings, Positions, PositionsError,
    RecordReader, start_consumer,
};
use seckill_orderbook::{Orderbook, OrderbookOptions, View};
use seckill_service::health::Health;
use seckill_service::ops::Ops;
use seckill_service::{shutdown, traces};
use seckill_stock::{LogIdentity, Stock, StockOptions};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::consistency::ConsistencyChecker;
use crate::context::ProjectorContext;
use crate::lag;
use crate::lateness;
use crate::metrics;
use crate::partition::Partition;
use crate::preflight;
use crate::standing::Standing;
use crate::watch::{Owned, Watch, lock};

const DATABASE_CONNECTIONS: u32 = 12;
/// Of the loads: those that read holds have one each, the others take turns at what is left.
const LOAD_CONNECTIONS: u32 = 4;
const LOADS_AT_A_TIME: usize = 3;
/// Where connections went mute, the fold is at work again within 10 s: two seconds after this time it makes a
/// new one, and by then the server has let go of what the old one held.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// A consumer thread that has not polled for this long is stuck.
const POLL_STALL: Duration = Duration::from_secs(10);
const FLUSH_DEADLINE: Duration = Duration::from_secs(5);
/// How long outcomes wait for those of other sales: all are spread over the partitions of their topics, and each
/// partition's are a request of their own.
const OUTCOMES_LINGER: Duration = Duration::from_millis(10);

/// Runs until `stop` is cancelled.
///
/// # Errors
/// Errors that do not pass by waiting: a wrong partition count, a Redis that evicts keys, a port in use.
pub async fn run(config: Config, stop: CancellationToken) -> anyhow::Result<()> {
    let ops = Ops::install("projector", &metrics::all()).map_err(anyhow::Error::msg)?;
    config
        .traces
        .start("projector")
        .map_err(anyhow::Error::msg)?;
    let health = ops.health.clone();
    let listener = tokio::spawn(ops.clone().serve(config.admin_listen, stop.clone())?);
    let upkeep = tokio::spawn(ops.upkeep(stop.clone()));
    let work = work(config, health, stop.clone()).await;
    stop.cancel();
    upkeep.await?;
    listener.await??;
    traces::finish().await;
    work
}

async fn work(config: Config, health: Health, stop: CancellationToken) -> anyhow::Result<()> {
    let Some((shared, assignments)) = connect(config, health, &stop).await? else {
        return Ok(());
    };
    shared
        .tasks
        .spawn(end_without_kafka(Arc::clone(&shared), stop.clone()));
    let owned: Owned = Arc::new(Mutex::new(HashMap::new()));
    let watch = Watch::new(Arc::clone(&shared), Arc::clone(&owned));
    shared.tasks.spawn(watch.run(stop.clone()));
    let checker = ConsistencyChecker::new(Arc::clone(&shared), Arc::clone(&owned));
    shared.tasks.spawn(checker.run(stop.clone()));
    shared
        .tasks
        .spawn(watchdog(Arc::clone(&shared), stop.clone()));
    let lag = lag::Monitor::new(Arc::clone(&shared));
    shared.tasks.spawn(lag.run(stop.clone()));
    shared
        .tasks
        .spawn(lateness::measure(Arc::clone(&shared), stop.clone()));
    shared.health.resolved("start");
    assign(&shared, &owned, assignments, &stop).await;

    tracing::info!("finishing what is in hand");
    let consumed = shared.consumer.shutdown().await;
    stop.cancel();
    shared.tasks.close();
    shared.tasks.wait().await;
    shared.producer.flush(FLUSH_DEADLINE).await?;
    shared.orderbook.close().await;
    shared.loads.close().await;
    Ok(consumed?)
}

/// Starts the workers of every assignment until `stop`.
async fn assign(
    shared: &Arc<ProjectorContext>,
    owned: &Owned,
    mut assignments: mpsc::UnboundedReceiver<Assignment>,
    stop: &CancellationToken,
) {
    loop {
        let assignment = tokio::select! {
            assignment = assignments.recv() => assignment,
            () = stop.cancelled() => return,
        };
        let Some(assignment) = assignment else {
            return;
        };
        let number = assignment.partition;
        let previous = lock(owned).remove(&number);
        if let Some(previous) = previous {
            previous.stop.cancel();
        }
        let partition = Partition::start(shared, assignment, stop.child_token());
        let (ended, owned) = (partition.stop.clone(), Arc::clone(owned));
        lock(&owned).insert(number, partition);
        shared.tasks.spawn(async move {
            ended.cancelled().await;
            let mut owned = lock(&owned);
            if owned.get(&number).is_some_and(|p| p.stop.is_cancelled()) {
                owned.remove(&number);
            }
        });
    }
}

/// Asks the stores what a start asks them.
///
/// # Errors
/// When a client cannot be made; what the stores are not, `health` tells.
pub async fn check(config: &Config, health: &Health) -> anyhow::Result<()> {
    let options = OrderbookOptions {
        max_connections: 1,
        holds_connections: false,
        ..orderbook_options(config)
    };
    let orderbook = Orderbook::connect(&options)?;
    let log = LogIdentity::default();
    let stock = Stock::new(StockOptions::new(&config.stores.redis))?;
    let settings = config.stores.kafka("seckill-projector");
    let topics = config.stores.topics();
    let kafka = (&settings, &topics, config.stores.kafka.partitions);
    Ok(preflight::pass(health, &orderbook, (&stock, &log), kafka).await?)
}

fn orderbook_options(config: &Config) -> OrderbookOptions {
    OrderbookOptions {
        database_url: config.stores.database_url.expose().to_owned(),
        application_name: "seckill-projector".to_owned(),
        max_connections: DATABASE_CONNECTIONS,
        holds_connections: true,
        acquire_timeout: Duration::from_secs(2),
        statement_timeout: STATEMENT_TIMEOUT,
        idle_transaction_timeout: STATEMENT_TIMEOUT,
    }
}

type Connected = (Arc<ProjectorContext>, mpsc::UnboundedReceiver<Assignment>);

async fn connect(
    config: Config,
    health: Health,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Connected>> {
    let topics = config.stores.topics();
    let settings = config.stores.kafka("seckill-projector");
    let (redis, prefix) = (&config.stores.redis, &config.stores.kafka.topic_prefix);
    let log = LogIdentity::default();
    let stock = Stock::new(StockOptions::new(redis).of_deployment(prefix, log.clone()))?;
    let cache = SharedCache::new(Ephemeral::new(redis, prefix)?);
    let options = orderbook_options(&config);
    let orderbook = Orderbook::connect(&options)?;
    let loads = Orderbook::connect(&OrderbookOptions {
        application_name: "seckill-projector-loads".to_owned(),
        max_connections: LOAD_CONNECTIONS,
        acquire_timeout: Duration::from_secs(10),
        ..options
    })?;
    let kafka = (&settings, &topics, config.stores.kafka.partitions);
    let checks = preflight::pass(&health, &orderbook, (&stock, &log), kafka);
    let Some(passed) = stop.run_until_cancelled(checks).await else {
        return Ok(None);
    };
    passed?;
    let lingering = KafkaSettings {
        linger: OUTCOMES_LINGER,
        ..settings.clone()
    };
    let producer = EventProducer::new(&lingering, &topics, config.stores.kafka.partitions)?;
    let records = RecordReader::new(&settings, &topics.events)?;
    let group = format!("{}seckill-projector", config.stores.kafka.topic_prefix);
    let positions = ViewPositions {
        orderbook: orderbook.clone(),
        topic: topics.events.clone(),
        runtime: Handle::current(),
    };
    let options = ConsumerOptions {
        settings: settings.clone(),
        topic: topics.events.clone(),
        group: group.clone(),
        buffer_records: 2 * config.fold_batch_max,
    };
    let (assignments, consumer) = start_consumer(&options, Arc::new(positions))?;
    let shared = ProjectorContext {
        config,
        kafka: settings,
        topics,
        group,
        orderbook,
        loads,
        load_permits: Semaphore::new(LOADS_AT_A_TIME),
        stock,
        cache,
        producer,
        consumer,
        records,
        standing: Standing::default(),
        health,
        tasks: TaskTracker::new(),
    };
    Ok(Some((Arc::new(shared), assignments)))
}

/// Consuming starts at the position of the view.
struct ViewPositions {
    orderbook: Orderbook,
    topic: String,
    runtime: Handle,
}

impl Positions for ViewPositions {
    fn next_offsets(&self, partitions: &[i32]) -> Result<Vec<(i32, Offset)>, PositionsError> {
        let read = self
            .orderbook
            .positions(&self.topic, partitions, View::Orders);
        Ok(self.runtime.block_on(read)?)
    }
}

/// Ends the process if the producer has failed permanently or the consumer is stuck: waiting does not help.
async fn end_without_kafka(shared: Arc<ProjectorContext>, stop: CancellationToken) {
    let why = tokio::select! {
        why = shared.producer.until_failed() => why,
        why = shared.consumer.until_stuck() => why,
        () = stop.cancelled() => return,
    };
    shared.health.problem("kafka-client", why.clone());
    shutdown::give_up(&stop, &why);
}

/// Reports a consumer that has stopped without an error, which is a known failure.
async fn watchdog(shared: Arc<ProjectorContext>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        let idle = shared.consumer.last_poll().elapsed();
        if idle > POLL_STALL {
            let why = format!("no poll for {} s", idle.as_secs());
            shared.health.problem("consumer", why);
        } else if shared.consumer.is_doubtful() {
            let why = "it reads nothing, and a fresh client would";
            shared.health.problem("consumer", why);
        } else {
            shared.health.resolved("consumer");
        }
    }
}
