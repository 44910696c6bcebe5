//! The three services with their own stores.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use redis::aio::MultiplexedConnection;
use seckill_domain::VoucherId;
use seckill_testkit::stack::Builder;
use seckill_testkit::{Service, TestStack, unique_prefix};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Client;
use crate::proxy::SlowWire;

pub(crate) const PERIOD: Duration = Duration::from_millis(25);
/// How long a test waits for what has to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The terms with which a sale is put up.
#[derive(Debug, Clone, Copy)]
pub struct SaleTerms {
    /// The title that buyers see.
    pub title: &'static str,
    /// Units.
    pub stock: i64,
    /// The most units in one order.
    pub max_quantity: u32,
    /// The time to pay.
    pub hold_seconds: u32,
    /// Seconds from now until it opens. Negative if it has opened before.
    pub opens_in_seconds: i64,
    /// Seconds from now until its window is over.
    pub closes_in_seconds: i64,
    /// Whether an order needs a sale token.
    pub requires_sale_token: bool,
    /// The currency of the price, which is 1,000 of its minor units.
    pub currency: &'static str,
}

impl SaleTerms {
    /// A sale of this many units, one for each buyer, that is already open. Its time to pay is longer than any test.
    #[must_use]
    pub const fn of(stock: i64) -> Self {
        Self {
            title: "One of many",
            stock,
            max_quantity: 1,
            hold_seconds: 600,
            opens_in_seconds: -1,
            closes_in_seconds: 3_600,
            requires_sale_token: false,
            currency: "EUR",
        }
    }

    /// The body of the request that puts it up.
    ///
    /// # Errors
    /// When a time cannot be written.
    pub fn body(&self) -> Result<Value> {
        let now = OffsetDateTime::now_utc();
        let opens_at = now + time::Duration::seconds(self.opens_in_seconds);
        let closes_at = now + time::Duration::seconds(self.closes_in_seconds);
        Ok(json!({
            "title": self.title, "price_cents": 1_000, "currency": self.currency,
            "stock": self.stock, "max_quantity": self.max_quantity,
            "opens_at": opens_at.format(&Rfc3339)?,
            "closes_at": closes_at.format(&Rfc3339)?,
            "hold_seconds": self.hold_seconds,
            "requires_sale_token": self.requires_sale_token,
        }))
    }
}

impl Default for SaleTerms {
    fn default() -> Self {
        Self::of(10)
    }
}

/// Stores, an ingress, a projector and a timeout service.
#[derive(Debug)]
pub struct World {
    /// An HTTP client of the ingress.
    pub client: Client,
    pub ingress: Service,
    pub projector: Service,
    /// The timeout service.
    pub timeout: Service,
    /// The stores. Dropped last.
    pub stack: TestStack,
}

impl World {
    /// Starts everything and waits until it is ready.
    ///
    /// # Errors
    /// When a store or a service does not come up.
    pub fn start() -> Result<Self> {
        Self::with(&[])
    }

    /// The same, with settings for all services.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::over(TestStack::builder(), settings)
    }

    /// The same with stores that belong to the test.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn over(mut stores: Builder, settings: &[(&str, &str)]) -> Result<Self> {
        for (name, value) in settings {
            stores = stores.setting(name, value);
        }
        Self::on(stores.start()?, &[])
    }

    /// Starts services with stores that already run, with `settings` for all services. The test itself uses the
    /// settings of the stack.
    ///
    /// # Errors
    /// When a service does not come up.
    pub fn on(stack: TestStack, settings: &[(&str, &str)]) -> Result<Self> {
        Self::on_each(stack, [settings; 3])
    }

    /// The same, with separate settings for the ingress, the projector and the timeout service.
    ///
    /// # Errors
    /// As [`Self::on`].
    pub fn on_each(stack: TestStack, settings: [&[(&str, &str)]; 3]) -> Result<Self> {
        let mut projector = Service::launch(stack.projector(settings[1])?)?;
        let mut timeout = Service::launch(stack.timeout(settings[2])?)?;
        let mut ingress = Service::launch(stack.ingress(settings[0])?)?;
        for service in [&mut projector, &mut timeout, &mut ingress] {
            service.wait_until_ready()?;
        }
        let client = client_of(&stack, &ingress);
        Ok(Self {
            client,
            ingress,
            projector,
            timeout,
            stack,
        })
    }

    /// Services that reach Redis only over a wire. The test itself connects directly.
    ///
    /// # Errors
    /// When a store or a service does not come up.
    pub async fn over_a_wire(stores: Builder) -> Result<(Self, SlowWire)> {
        let stack = stores.start()?;
        let wire = SlowWire::before(([127, 0, 0, 1], stack.redis.port()).into()).await?;
        let url = format!("redis://127.0.0.1:{}", wire.port());
        let world = Self::on(stack, &[("REDIS_URL", &url)])?;
        Ok((world, wire))
    }

    /// A client of another ingress with the same stores.
    #[must_use]
    pub fn client_of(&self, ingress: &Service) -> Client {
        client_of(&self.stack, ingress)
    }

    /// Puts up a sale and waits until Redis serves it.
    ///
    /// # Errors
    /// When it is refused or not served in time.
    pub async fn sale(&self, terms: SaleTerms) -> Result<VoucherId> {
        let voucher = self.schedule(terms).await?;
        self.until_served(voucher).await?;
        Ok(voucher)
    }

    /// Puts up a sale, and does not wait until Redis serves it. If a store does not answer in time, the request is
    /// repeated with the same key, as every operator should do.
    ///
    /// # Errors
    /// When it is refused, or not accepted in time.
    pub async fn schedule(&self, terms: SaleTerms) -> Result<VoucherId> {
        let (body, key) = (terms.body()?, unique_prefix());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (sales, headers) = ("/admin/v1/vouchers", [("Idempotency-Key", key.as_str())]);
            let asked = self.client.admin_post_with(sales, &body, &headers);
            let answer = asked.await?;
            if let Some(id) = answer.body["voucher_id"].as_i64() {
                return Ok(VoucherId::new(id)?);
            }
            ensure!(
                answer.status == 503 && Instant::now() < deadline,
                "no sale: {answer:?}\n{}",
                self.ingress.log_tail()
            );
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// A direct connection to PostgreSQL.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn database(&self) -> Result<PgPool> {
        // Rows are compared as texts, so the formats must not depend on this database's defaults.
        let options = PgConnectOptions::from_str(self.stack.setting("DATABASE_URL"))?
            .options([("bytea_output", "hex")]);
        Ok(PgPool::connect_with(options).await?)
    }

    /// A direct connection to Redis.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn redis(&self) -> Result<MultiplexedConnection> {
        let client = redis::Client::open(self.stack.setting("REDIS_URL"))?;
        Ok(client.get_multiplexed_async_connection().await?)
    }

    /// The name of a key in Redis, with this deployment's prefix.
    #[must_use]
    pub fn redis_name(&self, name: &str) -> String {
        format!("{}{name}", self.stack.setting("TOPIC_PREFIX"))
    }

    /// The key of a part of a sale: `sale`, `holds`, `outbox`, `claim` or `tokens`.
    #[must_use]
    pub fn sale_key(&self, voucher: VoucherId, part: &str) -> String {
        self.redis_name(&format!("seckill:{{{voucher}}}:{part}"))
    }

    /// How many keys a sale has in Redis.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn keys_of_sale(&self, voucher: VoucherId) -> Result<usize> {
        let mut redis = self.redis().await?;
        let mut keys = redis::cmd("KEYS");
        let found: Vec<String> = keys
            .arg(self.sale_key(voucher, "*"))
            .query_async(&mut redis)
            .await?;
        Ok(found.len())
    }

    /// Starts services again that have ended, as a supervisor does. Returns how many.
    ///
    /// # Errors
    /// When one ended in another way, or cannot be started.
    pub fn supervise(&mut self) -> Result<usize> {
        let mut ended = 0;
        for service in [&mut self.ingress, &mut self.projector, &mut self.timeout] {
            if let Some(status) = service.exit_status()? {
                ensure!(status.code() == Some(1), "{status}: {}", service.log_tail());
                service.relaunch(&[])?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    /// The last lines of the services' logs, for messages.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let services = [&self.ingress, &self.projector, &self.timeout];
        services.map(Service::log_tail).join("\n")
    }
}

fn client_of(stack: &TestStack, ingress: &Service) -> Client {
    Client::new(ingress.url(), ingress.admin_url(), |name| {
        stack.setting(name).to_owned()
    })
}
