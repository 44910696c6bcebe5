//! This project's own services, as the last rung sells through them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use redis::{ConnectionLike, InfoDict};
use seckill_bench::api::{Api, NewSale};
use seckill_bench::client::Pool;
use seckill_bench::credentials;
use seckill_bench::environment::Environment;
use seckill_domain::VoucherId;
use seckill_service::settings::{Secret, Source};
use seckill_testkit::{Service, TestStack};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Handle;
use tokio::task::{block_in_place, spawn_blocking};
use tokio::time::sleep;

use crate::disk::Disk;
use crate::store::Stores;

/// Nothing expires and no sale ends while it is looked at.
const HOLD_SECONDS: u32 = 7_200;
const SALE_DURATION: Duration = Duration::from_secs(7_200);
/// The packages whose programs are run.
pub const PACKAGES: [&str; 4] = [
    "seckill-ingress",
    "seckill-projector",
    "seckill-timeout",
    "seckillctl",
];

/// An ingress, a projector and a timeout service on a Kafka, a Redis and a PostgreSQL of their own.
#[derive(Debug)]
pub struct Pipeline {
    /// To the buyers' API.
    pub pool: Pool,
    /// To both APIs.
    pub api: Api,
    token_secret: Secret,
    // Before the stores: fields are dropped in this order.
    ingress: Mutex<Service>,
    _others: [Service; 2],
    stack: Mutex<TestStack>,
    stores: Stores,
}

impl Pipeline {
    /// Starts everything; the programs have to be built.
    ///
    /// # Errors
    /// When a program is missing or does not come up.
    pub async fn start(disk: Disk) -> Result<Self> {
        let (stack, services) = spawn_blocking(move || {
            let stack = TestStack::builder().private_kafka();
            let stack = stack.postgres(disk.postgres()?).redis(disk.redis()?);
            let stack = stack.start()?;
            let others = [stack.start_projector(&[])?, stack.start_timeout(&[])?];
            let ingress = stack.start_ingress(&[])?;
            anyhow::Ok((stack, (ingress, others)))
        })
        .await??;
        let (ingress, others) = services;
        let urls = [
            ("INGRESS_URL".to_owned(), ingress.url()),
            ("INGRESS_ADMIN_URL".to_owned(), ingress.admin_url()),
        ];
        let settings: Source = stack.env().clone().into_iter().chain(urls).collect();
        let environment = Environment::load(&settings)?;
        let api = Api::new(&environment).await?;
        Ok(Self {
            pool: Pool::new(api.public.clone()),
            api,
            token_secret: environment.token_secret,
            ingress: Mutex::new(ingress),
            _others: others,
            stores: Stores {
                database_url: environment.stores.database_url.expose().to_owned(),
                redis_urls: vec![environment.stores.redis.url],
            },
            stack: Mutex::new(stack),
        })
    }

    /// The services' own stores.
    #[must_use]
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// Puts units on sale, one a buyer.
    ///
    /// # Errors
    /// When that is refused, or takes too long.
    pub async fn open_sale(&self, stock: i64) -> Result<VoucherId> {
        let now = OffsetDateTime::now_utc();
        let sale = NewSale {
            title: "The oversell lab".to_owned(),
            price_cents: 100,
            currency: "EUR",
            stock: u64::try_from(stock)?,
            max_quantity: 1,
            opens_at: now.format(&Rfc3339)?,
            closes_at: (now + SALE_DURATION).format(&Rfc3339)?,
            hold_seconds: HOLD_SECONDS,
        };
        let api = self.api.clone();
        // The compiler cannot see that its future may change threads; here it does not.
        let runtime = Handle::current();
        spawn_blocking(move || runtime.block_on(api.open_sale(&sale))).await?
    }

    /// `Bearer <token>` of a user, from 1.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn bearer(&self, user: u64) -> Result<hyper::header::HeaderValue> {
        Ok(credentials::bearer(&self.token_secret, user)?.try_into()?)
    }

    /// How often Redis has read from a socket: a pipeline of commands is one.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn redis_reads(&self) -> Result<u64> {
        let mut redis = redis::Client::open(self.stores.redis_urls[0].as_str())?;
        let info = redis.req_command(redis::cmd("INFO").arg("stats"))?;
        let info: InfoDict = redis::from_redis_value(info)?;
        info.get("total_reads_processed").context("Redis' reads")
    }

    /// Writes down what Redis holds: what it will come back with.
    ///
    /// # Errors
    /// When it cannot.
    pub fn snapshot_redis(&self) -> Result<()> {
        lock(&self.stack).redis.snapshot()
    }

    /// Kills Redis and starts it from the snapshot.
    ///
    /// # Errors
    /// When it does not come back.
    pub fn restart_redis(&self) -> Result<()> {
        block_in_place(|| lock(&self.stack).redis.restart_from_snapshot())
    }

    /// SIGSTOP to the ingress, and SIGCONT after a while.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub async fn pause_ingress(&self, pause: Duration) -> Result<()> {
        lock(&self.ingress).pause()?;
        sleep(pause).await;
        lock(&self.ingress).resume()
    }

    /// SIGKILL to the ingress, and a new one in its place.
    ///
    /// # Errors
    /// When the new one does not come up.
    pub fn kill_ingress(&self) -> Result<()> {
        block_in_place(|| {
            let mut ingress = lock(&self.ingress);
            ingress.kill()?;
            ingress.restart(&[])
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
