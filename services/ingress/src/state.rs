//! The state that handlers share: one struct for each room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web::{Data, ServiceConfig};
use seckill_ephemeral::SharedCache;
use tokio::runtime::Handle;

use crate::buyers;
use crate::buyers::revoked::Revoked;
use crate::buyers::tokens::Tokens;
use crate::clients::Clients;
use crate::config::Config;
use crate::gate::Gate;
use crate::gate::admission::Admission;
use crate::gate::limits::{Budgets, Limits};
use crate::gate::risk::Risk;
use crate::gate::sale_tokens::SaleTokens;
use crate::http::address::TrustedProxies;
use crate::http::body::Arriving;
use crate::issuer::Issuer;
use crate::metrics;
use crate::operators::Admin;
use crate::operators::auth::Operators;
use crate::operators::operations::Operations;
use crate::operators::provider::Provider;
use crate::operators::pulse::Slots;
use crate::orders::Orders;
use crate::orders::reservations::{Reservations, ReservationsOptions};
use crate::orders::streams::Streams;
use crate::payments::Payments;
use crate::payments::webhook::Webhook;
use crate::reads::{ReadSources, Reads};
use crate::shop::Shop;
use crate::sign_in::SignIn;
use crate::sign_in::api::SignInApi;
use crate::sign_in::mailer::Postman;

/// The state of the whole process.
pub struct App {
    /// The checks that a request passes before it is served.
    pub gate: Arc<Gate>,
    /// Counts request bodies that are still arriving, by client address.
    pub arriving: Data<Arriving>,
    /// The proxies that are believed when they name a client's address.
    pub trusted_proxies: Data<TrustedProxies>,
    /// Buyers' orders.
    pub orders: Data<Orders>,
    /// The payment provider's calls.
    pub payments: Data<Payments>,
    /// The catalogue and the pages.
    pub shop: Data<Shop>,
    /// Sign-in by e-mailed code.
    pub sign_in: Data<SignInApi>,
    /// The operators' API.
    pub admin: Data<Admin>,
    /// True once the start-up checks have passed.
    pub started: AtomicBool,
}

impl App {
    /// All rooms, and what delivers the sign-in's mails. The metrics recorder has to be installed before.
    ///
    /// # Errors
    /// When a setting cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn new(
        config: &Config,
        clients: &Clients,
    ) -> anyhow::Result<(Self, Option<Postman>)> {
        // Alerts ask how fast they grow, also from none.
        metrics::ADMIN_REFUSED.only().increment(0);
        metrics::SIGN_INS.with(["unauthorized"]).increment(0);
        metrics::MAILS.with(["failed"]).increment(0);
        let runtime = Handle::current();
        let revoked = Revoked::default();
        let (sign_in, postman) = SignIn::new(
            &config.sign_in,
            &config.token_secret,
            (clients.ephemeral.clone(), clients.door.clone()),
            revoked.clone(),
            runtime.clone(),
        )?;
        let gate = Arc::new(gate(config, clients, revoked)?);
        let reservations = reservations(config, clients);
        let sources = ReadSources {
            orderbook: clients.orderbook.clone(),
            stock: clients.stock_reads.clone(),
            cache: SharedCache::new(clients.ephemeral.clone()),
            events_topic: clients.topics.events.clone(),
        };
        let reads = Reads::new(sources, runtime.clone());
        let operations = Operations::new(
            clients.orderbook.clone(),
            clients.kafka.clone(),
            clients.topics.clone(),
            config.stores.kafka.partitions,
            runtime.clone(),
        )?;
        let provider = config.admin_provider.clone();
        let provider = provider.map(|settings| Provider::new(settings, runtime));
        let provider = provider.transpose().map_err(anyhow::Error::msg)?;
        let app = Self {
            gate: Arc::clone(&gate),
            arriving: Data::new(Arriving::new(config.bodies_per_address)),
            trusted_proxies: Data::new(config.trusted_proxies.clone()),
            orders: Data::new(Orders {
                gate: Arc::clone(&gate),
                reservations: reservations.clone(),
                reads: reads.clone(),
                streams: Streams::new(),
            }),
            payments: Data::new(Payments {
                gate: Arc::clone(&gate),
                webhook: webhook(config)?,
                reservations: reservations.clone(),
                reads: reads.clone(),
            }),
            shop: Data::new(Shop {
                gate: Arc::clone(&gate),
                reads: reads.clone(),
                payment_page: config.payment_page.clone(),
            }),
            sign_in: Data::new(SignInApi {
                gate: Arc::clone(&gate),
                sign_in,
            }),
            admin: Data::new(Admin {
                gate,
                operators: Operators::new(config.admin_token.clone(), config.admin_tokens.clone()),
                provider,
                operations,
                slots: Slots::new(clients.ephemeral.clone()),
                reservations,
                reads,
            }),
            started: AtomicBool::new(false),
        };
        Ok((app, postman))
    }

    /// Lets every handler extract the state of its room.
    pub fn register(this: &Data<Self>, config: &mut ServiceConfig) {
        config
            .app_data(this.clone())
            .app_data(this.arriving.clone())
            .app_data(this.trusted_proxies.clone())
            .app_data(this.orders.clone())
            .app_data(this.payments.clone())
            .app_data(this.shop.clone())
            .app_data(this.sign_in.clone())
            .app_data(this.admin.clone());
    }

    /// Whether the start-up checks have passed.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Notes that the start-up checks have passed: requests are served from now on.
    pub fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }
}

fn gate(config: &Config, clients: &Clients, revoked: Revoked) -> anyhow::Result<Gate> {
    let budgets = config.rate_limits_shared.then(|| Budgets {
        redis: clients.ephemeral.clone(),
        runtime: Handle::current(),
    });
    let previous = config.token_secret_previous.as_ref();
    Ok(Gate {
        admission: Admission::new(config.places),
        limits: Limits::new(config.rate_limits, budgets),
        risk: Risk::default(),
        tokens: Tokens::new(
            &config.token_secret,
            previous,
            config.sign_in.token_life,
            revoked,
        )
        .and_of(buyers_provider(config, clients)?),
        sale_tokens: SaleTokens::new(&config.token_secret, previous),
        trusted_proxies: config.trusted_proxies.clone(),
    })
}

fn buyers_provider(
    config: &Config,
    clients: &Clients,
) -> anyhow::Result<Option<buyers::provider::Provider>> {
    let Some(settings) = config.buyer_issuer.clone() else {
        return Ok(None);
    };
    let runtime = Handle::current();
    let issuer = Issuer::new(settings, "buyers", runtime.clone());
    let issuer = issuer.map_err(anyhow::Error::msg)?;
    let users = clients.buyers.clone();
    Ok(Some(buyers::provider::Provider::new(
        issuer, users, runtime,
    )))
}

fn reservations(config: &Config, clients: &Clients) -> Reservations {
    let options = ReservationsOptions {
        promise_deadline: config.promise_deadline,
        delivery_timeout: clients.kafka.delivery_timeout,
        max_in_flight: config.max_in_flight,
        queue_patience: config.queue_patience,
    };
    let (stock, pages) = (clients.stock_orders.clone(), clients.stock_pages.clone());
    let producer = Arc::clone(&clients.producer);
    Reservations::new(stock, pages, producer, options, Handle::current())
}

fn webhook(config: &Config) -> anyhow::Result<Webhook> {
    let previous = config.payment_webhook_secret_previous.as_ref();
    let made = Webhook::new(&config.payment_webhook_secret, previous);
    made.map_err(|error| anyhow::anyhow!("PAYMENT_WEBHOOK_SECRET: {error}"))
}
