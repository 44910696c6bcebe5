//! Tasks that run beside the requests: the relay, the reader of the outcomes, readiness, and cleaning up.

use std::error::Error;
use std::time::Duration;

use actix_web::web;
use seckill_orderbook::Orderbook;
use seckill_service::health::Health;
use seckill_service::ops::Ops;
use seckill_stock::{Stock, StockError};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clients::Clients;
use crate::metrics;
use crate::operators::pulse::Reporter;
use crate::orders::outcomes;
use crate::orders::reservations::RelayOptions;
use crate::sign_in::mailer::Postman;
use crate::state::App;

const CHECK_EVERY: Duration = Duration::from_secs(1);
const SIGN_OUTS_EVERY: Duration = Duration::from_secs(1);
const FORGET_EVERY: Duration = Duration::from_secs(600);
const TAIL_RETRY: Duration = Duration::from_secs(1);

/// The running tasks.
pub(crate) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Background {
    /// None: the process ends before it is ready.
    pub(crate) fn none() -> Self {
        Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Starts them all on the current runtime.
    pub(crate) fn start(
        app: &web::Data<App>,
        ops: &Ops,
        clients: &Clients,
        relay: RelayOptions,
    ) -> Self {
        let background = Self::none();
        let stop = || background.stop.clone();
        let tasks = &background.tasks;
        tasks.spawn(app.orders.reservations.clone().relay(relay, stop()));
        tasks.spawn(ops.clone().upkeep(stop()));
        let checks = Checks {
            app: app.clone(),
            health: ops.health.clone(),
            orderbook: clients.orderbook.clone(),
            stock: clients.stock_reads.clone(),
        };
        tasks.spawn(until(stop(), checks.run()));
        let reporter = Reporter {
            slots: app.admin.slots.clone(),
            operations: app.admin.operations.clone(),
            reads: app.admin.reads.clone(),
            ops: ops.clone(),
        };
        tasks.spawn(until(stop(), reporter.run()));
        tasks.spawn(until(stop(), learn_sign_outs(app.clone())));
        tasks.spawn(until(stop(), forget_sign_outs(clients.door.clone())));
        let (risk, orderbook) = (app.clone(), clients.door.clone());
        tasks.spawn(until(stop(), async move {
            risk.gate.risk.follow(orderbook).await;
        }));
        tasks.spawn(until(stop(), follow(app.clone(), clients, stop())));
        if let Some(provider) = &app.admin.provider {
            tasks.spawn(until(stop(), provider.issuer().follow()));
        }
        if let Some(provider) = app.gate.tokens.provider() {
            tasks.spawn(until(stop(), provider.issuer().follow()));
        }
        background
    }

    /// Sends the mails that wait.
    pub(crate) fn deliver(&self, postman: Option<Postman>) {
        if let Some(postman) = postman {
            self.tasks.spawn(postman.run(self.stop.clone()));
        }
    }

    /// Ends them, and waits at most for `deadline`.
    pub(crate) async fn stop(self, deadline: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                tasks = self.tasks.len(),
                "background tasks did not end in time"
            );
        }
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    stop.run_until_cancelled(work).await;
}

/// Reads the outcomes, even if Kafka is unavailable at the start.
fn follow(
    app: web::Data<App>,
    clients: &Clients,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (kafka, topic) = (clients.kafka.clone(), clients.topics.outcomes.clone());
    async move {
        while !stop.is_cancelled() {
            let (streams, reads) = (app.orders.streams.clone(), app.orders.reads.clone());
            let (kafka, topic) = (kafka.clone(), topic.clone());
            let followed = outcomes::follow(streams, kafka, topic, reads, stop.clone());
            if let Err(error) = followed.await {
                tracing::warn!(%error, "streams fall back to reading every few seconds");
            }
            tokio::time::sleep(TAIL_RETRY).await;
        }
    }
}

/// While PostgreSQL is unavailable, the last known values are used.
async fn learn_sign_outs(app: web::Data<App>) {
    let mut ticks = interval(SIGN_OUTS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = app.sign_in.sign_in.learn_sign_outs().await {
            tracing::debug!(%error, "sign-outs elsewhere are not known for now");
        }
    }
}

async fn forget_sign_outs(orderbook: Orderbook) {
    let mut ticks = interval(FORGET_EVERY);
    loop {
        ticks.tick().await;
        if let Err(error) = orderbook.forget_expired_sessions().await {
            tracing::debug!(%error, "expired sessions stay for now");
        }
    }
}

/// Readiness while serving. PostgreSQL is checked but not required: orders are accepted without it.
struct Checks {
    app: web::Data<App>,
    health: Health,
    orderbook: Orderbook,
    stock: Stock,
}

impl Checks {
    async fn run(self) {
        let mut ticks = interval(CHECK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut postgresql_was_up = true;
        loop {
            ticks.tick().await;
            let (redis, postgresql) =
                tokio::join!(self.stock.check_writable(), self.orderbook.ping());
            let redis = redis.map_err(|error| with_cause(&error));
            let kafka = self.app.orders.reservations.is_accepting();
            self.health.check("redis", &redis);
            self.health.check("kafka", &kafka);
            let age = self.app.orders.reservations.queue_age();
            metrics::ORDER_QUEUE_AGE_SECONDS
                .only()
                .set(age.as_secs_f64());
            gauge("redis", redis.is_ok());
            gauge("kafka", kafka.is_ok());
            gauge("postgresql", postgresql.is_ok());
            if postgresql.is_ok() != postgresql_was_up {
                postgresql_was_up = postgresql.is_ok();
                let error = postgresql.err().map(|error| error.to_string());
                tracing::warn!(up = postgresql_was_up, error, "PostgreSQL changed");
            }
        }
    }
}

/// The error of Redis says why it accepts no writes.
fn with_cause(error: &StockError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn gauge(dependency: &'static str, up: bool) {
    metrics::DEPENDENCY_UP
        .with([dependency])
        .set(f64::from(u8::from(up)));
}
