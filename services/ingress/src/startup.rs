//! The ingress as a whole: built from its settings, started, and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web;
use anyhow::Context;
use seckill_eventlog::EventProducer;
use seckill_service::health::Health;
use seckill_service::ops::Ops;
use seckill_service::shutdown;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::clients::Clients;
use crate::config::Config;
use crate::http::listener::{ListenerOptions, listen};
use crate::orders::reservations::RelayOptions;
use crate::routes::{admin_routes, public_routes};
use crate::sign_in::mailer::Postman;
use crate::state::App;
use crate::{middleware, preflight};

/// An order's timeline is read from the log.
const ADMIN_ANSWER_MAX: Duration = Duration::from_secs(60);
/// Beyond the longest that an answer or an ack may take.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);

/// The process: listening, but refusing requests until [`Application::run`] has checked the stores.
pub struct Application {
    config: Config,
    clients: Clients,
    app: web::Data<App>,
    postman: Option<Postman>,
    ops: Ops,
    public: Server,
    admin: Server,
    address: SocketAddr,
    admin_address: SocketAddr,
}

impl Application {
    /// Makes the clients and binds both listeners. Port 0 takes any that is free.
    ///
    /// # Errors
    /// When a setting cannot be used or an address cannot be bound.
    ///
    /// # Panics
    /// Outside a multi-threaded tokio runtime.
    pub fn build(config: Config, ops: Ops) -> anyhow::Result<Self> {
        let clients = Clients::new(&config)?;
        let (app, postman) = App::new(&config, &clients)?;
        let app = web::Data::new(app);
        let (public, address) = public_server(&config, &app)?;
        let (admin, admin_address) = admin_server(&config, &app, &ops)?;
        tracing::info!(%address, %admin_address, "listening");
        Ok(Self {
            config,
            clients,
            app,
            postman,
            ops,
            public,
            admin,
            address,
            admin_address,
        })
    }

    /// Where buyers are served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators are served.
    #[must_use]
    pub const fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Waits for the stores, serves until `stop`, and ends in order: not ready, HTTP, orders under
    /// way, producer, the rest.
    ///
    /// # Errors
    /// When the stores are not what the settings say, or a listener fails.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let (public, admin) = (self.public.handle(), self.admin.handle());
        let public_task = tokio::spawn(self.public);
        let admin_task = tokio::spawn(self.admin);
        let ending = Ending {
            public,
            admin,
            health: self.ops.health.clone(),
            app: self.app.clone(),
            clients: &self.clients,
            drain_delay: self.config.drain_delay,
        };
        let checks = preflight::pass(
            &self.ops.health,
            &self.clients,
            &self.app.sign_in.sign_in,
            self.config.stores.kafka.partitions,
        );
        tokio::spawn(end_without_producer(
            Arc::clone(&self.clients.producer),
            self.ops.health.clone(),
            stop.clone(),
        ));
        let passed = stop.run_until_cancelled(checks).await;
        let background = match passed {
            Some(Ok(())) => {
                let relay = relay_options(&self.clients, self.config.stores.kafka.partitions);
                let background = Background::start(&self.app, &self.ops, &self.clients, relay);
                background.deliver(self.postman);
                // Before the first order; while the database is away, as soon as it is back.
                if let Err(error) = self.app.gate.risk.refresh(&self.clients.door).await {
                    tracing::warn!(%error, "no risk rules yet");
                }
                self.app.set_started();
                self.ops.health.resolved("start");
                tracing::info!("ready");
                background
            }
            Some(Err(error)) => {
                ending.stop_listening().await;
                return Err(error.into());
            }
            None => Background::none(),
        };
        let failed = tokio::select! {
            () = stop.cancelled() => None,
            ended = public_task => Some(ended),
            ended = admin_task => Some(ended),
        };
        ending.run(background).await;
        match failed {
            None => Ok(()),
            Some(ended) => ended
                .context("a listener's task ended")?
                .context("a listener ended"),
        }
    }
}

/// Asks the stores what a start asks them, and listens nowhere.
///
/// # Errors
/// When a client cannot be made; what the stores are not, `health` tells.
pub async fn check(config: &Config, health: &Health) -> anyhow::Result<()> {
    let clients = Clients::new(config)?;
    let (app, _) = App::new(config, &clients)?;
    let partitions = config.stores.kafka.partitions;
    preflight::pass(health, &clients, &app.sign_in.sign_in, partitions).await?;
    Ok(())
}

/// A producer that has failed for good is not mended by waiting. Nothing is taken meanwhile:
/// [`crate::orders::reservations::Reservations`] asks it first.
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

fn relay_options(clients: &Clients, partitions: i32) -> RelayOptions {
    RelayOptions {
        orderbook: clients.orderbook.clone(),
        partitions,
    }
}

fn public_server(config: &Config, app: &web::Data<App>) -> anyhow::Result<(Server, SocketAddr)> {
    let (app, answer) = (app.clone(), config.promise_deadline + SHUTDOWN_MARGIN);
    let options = ListenerOptions {
        keep_alive: config.keep_alive,
        answer,
        shutdown: answer,
        workers: config.workers,
    };
    let listener = listen(config.listen, options, move || {
        actix_web::App::new()
            .configure(|config| App::register(&app, config))
            .wrap(from_fn(middleware::observe))
            // Around the others: who is refused should not cost what they cost.
            .wrap(from_fn(middleware::admit))
            .configure(public_routes)
    });
    listener.with_context(|| format!("INGRESS_LISTEN: cannot listen on {}", config.listen))
}

fn admin_server(
    config: &Config,
    app: &web::Data<App>,
    ops: &Ops,
) -> anyhow::Result<(Server, SocketAddr)> {
    let (app, ops) = (app.clone(), ops.clone());
    let options = ListenerOptions {
        keep_alive: config.keep_alive,
        answer: ADMIN_ANSWER_MAX,
        shutdown: SHUTDOWN_MARGIN,
        workers: 1,
    };
    let listener = listen(config.admin_listen, options, move || {
        actix_web::App::new()
            .configure(|config| App::register(&app, config))
            .wrap(from_fn(middleware::observe))
            .configure(|routes| ops.routes(routes))
            .configure(admin_routes)
    });
    let address = config.admin_listen;
    listener.with_context(|| format!("INGRESS_ADMIN_LISTEN: cannot listen on {address}"))
}

/// What has to end, in this order.
struct Ending<'a> {
    public: ServerHandle,
    admin: ServerHandle,
    health: Health,
    app: web::Data<App>,
    clients: &'a Clients,
    drain_delay: Duration,
}

impl Ending<'_> {
    async fn run(self, background: Background) {
        self.health.problem("stop", "shutting down");
        // The load balancer needs a moment to see it; requests that come until then are served.
        tokio::time::sleep(self.drain_delay).await;
        self.app.orders.streams.end();
        self.public.stop(true).await;
        let deadline = self.clients.kafka.delivery_timeout + SHUTDOWN_MARGIN;
        self.app.orders.reservations.drain(deadline).await;
        if let Err(error) = self.clients.producer.flush(deadline).await {
            tracing::warn!(
                %error,
                "the producer ends with records that were not acknowledged"
            );
        }
        background.stop(SHUTDOWN_MARGIN).await;
        self.admin.stop(true).await;
        self.clients.orderbook.close().await;
        self.clients.door.close().await;
        self.clients.buyers.close().await;
        tracing::info!("ended in order");
    }

    async fn stop_listening(&self) {
        self.public.stop(false).await;
        self.admin.stop(false).await;
    }
}
