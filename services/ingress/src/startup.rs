//! The ingress as a whole: built from its settings, started, and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::web;
use anyhow::Context;
use seckill_ephemeral::{Ephemeral, SharedCache};
use seckill_eventlog::{EventProducer, KafkaSettings, Topics};
use seckill_orderbook::{Orderbook, OrderbookOptions};
use seckill_stock::{LogIdentity, Stock, StockOptions};
use seckill_telemetry::health::Health;
use seckill_telemetry::ops::Ops;
use seckill_telemetry::shutdown;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::background::Background;
use crate::buyers::revoked::Revoked;
use crate::buyers::tokens::Tokens;
use crate::config::Config;
use crate::gate::admission::Admission;
use crate::gate::limits::{Budgets, Limits};
use crate::gate::risk::Risk;
use crate::gate::sale_tokens::SaleTokens;
use crate::http::body::Arriving;
use crate::http::listener::{ListenerOptions, listen};
use crate::middleware;
use crate::operators::auth::ADMIN_REFUSED_TOTAL;
use crate::operators::auth::Operators;
use crate::operators::operations::Operations;
use crate::orders::reservations::{RelayOptions, Reservations, ReservationsOptions};
use crate::orders::streams::Streams;
use crate::payments::webhook::Webhook;
use crate::preflight;
use crate::reads::{ReadSources, Reads};
use crate::routes::{admin_routes, public_routes};
use crate::sign_in::SignIn;
use crate::sign_in::api::SIGN_INS_TOTAL;
use crate::sign_in::mailer::Postman;
use crate::state::App;

/// What this service is called in Kafka, PostgreSQL and `ce_source`.
const SERVICE: &str = "seckill-ingress";

const DATABASE_CONNECTIONS: u32 = 16;
/// For sign-ins, sign-outs and risk rules.
const DOOR_CONNECTIONS: u32 = 4;
const DATABASE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
const DATABASE_STATEMENT_TIMEOUT: Duration = Duration::from_secs(2);
const DATABASE_IDLE_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// An order's timeline is read from the log.
const ADMIN_ANSWER_MAX: Duration = Duration::from_secs(60);
/// Beyond the longest that an answer or an ack may take.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);

/// The stores' clients. None of them has connected yet.
pub(crate) struct Clients {
    pub(crate) orderbook: Orderbook,
    /// What keeps the door shut, on connections of its own: no flood of reads takes them.
    pub(crate) door: Orderbook,
    /// Each use its own connection, so that none waits for another.
    pub(crate) stock_orders: Stock,
    pub(crate) stock_reads: Stock,
    pub(crate) stock_relay: Stock,
    /// Whose sales are taken for this deployment's own, as soon as Kafka has told.
    pub(crate) log: LogIdentity,
    pub(crate) ephemeral: Ephemeral,
    pub(crate) producer: Arc<EventProducer>,
    pub(crate) kafka: KafkaSettings,
    pub(crate) topics: Topics,
}

impl Clients {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let orderbook = |max_connections| {
            Orderbook::connect(&OrderbookOptions {
                database_url: config.stores.database_url.expose().to_owned(),
                application_name: SERVICE.to_owned(),
                max_connections,
                holds_connections: false,
                acquire_timeout: DATABASE_ACQUIRE_TIMEOUT,
                statement_timeout: DATABASE_STATEMENT_TIMEOUT,
                idle_transaction_timeout: DATABASE_IDLE_TRANSACTION_TIMEOUT,
            })
            .context("DATABASE_URL cannot be used")
        };
        let (redis, prefix) = (&config.stores.redis, &config.stores.kafka.topic_prefix);
        let log = LogIdentity::default();
        let options = StockOptions::new(redis).of_deployment(prefix, log.clone());
        let stock = || Stock::new(options.clone());
        let mut kafka = config.stores.kafka(SERVICE);
        // A record that is given up before the promise's deadline could have been promised still.
        kafka.delivery_timeout = kafka.delivery_timeout.max(config.promise_deadline);
        let topics = config.stores.topics();
        let producer = EventProducer::new(&kafka, &topics, config.stores.kafka.partitions)
            .context("KAFKA_BROKERS")?;
        Ok(Self {
            orderbook: orderbook(DATABASE_CONNECTIONS)?,
            door: orderbook(DOOR_CONNECTIONS)?,
            stock_orders: stock().context("REDIS_URL cannot be used")?,
            stock_reads: stock()?,
            stock_relay: stock()?,
            log,
            ephemeral: Ephemeral::new(redis, prefix).context("REDIS_URL cannot be used")?,
            producer: Arc::new(producer),
            kafka,
            topics,
        })
    }
}

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
        let (app, postman) = app(&config, &clients)?;
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
            &self.app.sign_in,
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
                if let Err(error) = self.app.risk.refresh(&self.clients.door).await {
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

/// A producer that has failed for good is not mended by waiting. Nothing is taken meanwhile:
/// [`Reservations`] asks it first.
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

fn app(config: &Config, clients: &Clients) -> anyhow::Result<(App, Option<Postman>)> {
    let runtime = Handle::current();
    // Alerts ask how fast they grow, also from none.
    metrics::counter!(ADMIN_REFUSED_TOTAL).increment(0);
    metrics::counter!(SIGN_INS_TOTAL, "answer" => "unauthorized").increment(0);
    let options = ReservationsOptions {
        promise_deadline: config.promise_deadline,
        delivery_timeout: clients.kafka.delivery_timeout,
        max_in_flight: config.max_in_flight,
        queue_patience: config.queue_patience,
    };
    let stock = clients.stock_orders.clone();
    let producer = Arc::clone(&clients.producer);
    let sources = ReadSources {
        orderbook: clients.orderbook.clone(),
        stock: clients.stock_reads.clone(),
        cache: SharedCache::new(clients.ephemeral.clone()),
        events_topic: clients.topics.events.clone(),
    };
    let operations = Operations::new(
        clients.orderbook.clone(),
        clients.kafka.clone(),
        clients.topics.clone(),
        config.stores.kafka.partitions,
        runtime.clone(),
    );
    let revoked = Revoked::default();
    let (sign_in, postman) = SignIn::new(
        &config.sign_in,
        &config.token_secret,
        (clients.ephemeral.clone(), clients.door.clone()),
        revoked.clone(),
        runtime.clone(),
    )?;
    let budgets = config.rate_limits_shared.then(|| Budgets {
        redis: clients.ephemeral.clone(),
        runtime: runtime.clone(),
    });
    let previous = config.token_secret_previous.as_ref();
    let app = App {
        admission: Admission::new(config.places),
        arriving: Arriving::new(config.bodies_per_address),
        reservations: Reservations::new(stock, producer, options, runtime.clone()),
        reads: Reads::new(sources, runtime),
        operations,
        tokens: Tokens::new(
            &config.token_secret,
            previous,
            config.sign_in.token_life,
            revoked,
        ),
        sale_tokens: SaleTokens::new(&config.token_secret, previous),
        sign_in,
        operators: Operators::new(config.admin_token.clone(), config.admin_tokens.clone()),
        webhook: webhook(config)?,
        payment_page: config.payment_page.clone(),
        limits: Limits::new(config.rate_limits, budgets),
        risk: Risk::default(),
        trusted_proxies: config.trusted_proxies.clone(),
        streams: Streams::new(),
        stop_streams: CancellationToken::new(),
        started: AtomicBool::new(false),
    };
    Ok((app, postman))
}

fn webhook(config: &Config) -> anyhow::Result<Webhook> {
    let previous = config.payment_webhook_secret_previous.as_ref();
    let made = Webhook::new(&config.payment_webhook_secret, previous);
    made.map_err(|error| anyhow::anyhow!("PAYMENT_WEBHOOK_SECRET: {error}"))
}

fn relay_options(clients: &Clients, partitions: i32) -> RelayOptions {
    RelayOptions {
        stock: clients.stock_relay.clone(),
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
            .app_data(app.clone())
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
            .app_data(app.clone())
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
        self.app.stop_streams.cancel();
        self.public.stop(true).await;
        let deadline = self.clients.kafka.delivery_timeout + SHUTDOWN_MARGIN;
        self.app.reservations.drain(deadline).await;
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
        tracing::info!("ended in order");
    }

    async fn stop_listening(&self) {
        self.public.stop(false).await;
        self.admin.stop(false).await;
    }
}
