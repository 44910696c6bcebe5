//! The few calls of the public and the admin API that are made one at a time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode};
use seckill_domain::{OrderId, VoucherId};
use seckill_service::settings::Secret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::{Endpoint, Reply};
use crate::environment::Environment;
use crate::progress::{Wait, wait_for};

const OPEN_DEADLINE: Duration = Duration::from_secs(30);

/// A sale to put up. Times are RFC 3339.
#[derive(Debug, Clone, Serialize)]
pub struct NewSale {
    /// What buyers see.
    pub title: String,
    /// The price of one unit.
    pub price_cents: i64,
    /// ISO 4217.
    pub currency: &'static str,
    /// Units.
    pub stock: u64,
    /// The most units in one order.
    pub max_quantity: u32,
    /// When orders are first taken.
    pub opens_at: String,
    /// When orders are no longer taken.
    pub closes_at: String,
    /// Seconds to pay.
    pub hold_seconds: u32,
}

impl NewSale {
    /// One that is on from now, at one euro, one unit a buyer.
    ///
    /// # Errors
    /// When a time cannot be written.
    pub fn from_now(
        title: &str,
        stock: u64,
        hold_seconds: u32,
        lasts: Duration,
    ) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        Ok(Self {
            title: title.to_owned(),
            price_cents: 100,
            currency: "EUR",
            stock,
            max_quantity: 1,
            opens_at: now.format(&Rfc3339)?,
            closes_at: (now + lasts).format(&Rfc3339)?,
            hold_seconds,
        })
    }
}

/// The conservation law of one sale across the stores, in units, as the admin API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Ledger {
    /// Units at the start.
    pub initial: i64,
    /// Units added since, less those taken away.
    pub adjusted: i64,
    /// Free, by PostgreSQL.
    pub available: i64,
    /// In unpaid orders, by PostgreSQL.
    pub unpaid: i64,
    /// In paid orders, by PostgreSQL.
    pub paid: i64,
    /// Held in Redis; none while Redis does not serve the sale.
    pub held: Option<i64>,
    /// Free, by Redis.
    pub redis_available: Option<i64>,
    /// Granted by Redis and not folded yet.
    pub in_flight: Option<i64>,
    /// `available − redis_available − in_flight`.
    pub drift: Option<i64>,
}

impl Ledger {
    /// Nothing is on its way between the stores, and they agree.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.in_flight == Some(0) && self.redis_available == Some(self.available)
    }
}

#[derive(Deserialize)]
struct Created {
    voucher_id: i64,
}

#[derive(Deserialize)]
struct Status {
    status: String,
}

/// Both APIs of one stack.
#[derive(Debug, Clone)]
pub struct Api {
    /// The buyers' API.
    pub public: Arc<Endpoint>,
    admin: Arc<Endpoint>,
    admin_token: Secret,
}

impl Api {
    /// Finds the servers; nothing is called yet.
    ///
    /// # Errors
    /// When a URL cannot be used.
    pub async fn new(environment: &Environment) -> anyhow::Result<Self> {
        Ok(Self {
            public: Endpoint::resolve(&environment.ingress_url).await?,
            admin: Endpoint::resolve(&environment.ingress_admin_url).await?,
            admin_token: environment.admin_token.clone(),
        })
    }

    /// Puts a sale up and waits until it is open.
    ///
    /// # Errors
    /// When it is refused, or not open within 30 seconds.
    pub async fn open_sale(&self, sale: &NewSale) -> anyhow::Result<VoucherId> {
        let body = serde_json::to_vec(sale)?;
        let reply = self
            .admin_call(Method::POST, "/admin/v1/vouchers", body)
            .await?;
        let created: Created = read(&reply, StatusCode::ACCEPTED, "putting the sale up")?;
        let voucher = VoucherId::new(created.voucher_id)?;
        let open = async || {
            let status = self.voucher_status(voucher).await?;
            Ok(match status.as_deref() {
                Some("open") => Wait::Over(()),
                Some(status) => Wait::On(format!("its status is {status}")),
                None => Wait::On("the catalogue does not know it".to_owned()),
            })
        };
        wait_for(&format!("sale {voucher} to open"), OPEN_DEADLINE, open).await?;
        Ok(voucher)
    }

    /// Closes a sale.
    ///
    /// # Errors
    /// When that is refused.
    pub async fn close_sale(&self, voucher: VoucherId) -> anyhow::Result<()> {
        let path = format!("/admin/v1/vouchers/{voucher}/close");
        let reply = self.admin_call(Method::POST, &path, Vec::new()).await?;
        if reply.status != StatusCode::ACCEPTED {
            bail!(refusal(&reply, "closing the sale"));
        }
        Ok(())
    }

    /// A sale's ledger.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn ledger(&self, voucher: VoucherId) -> anyhow::Result<Ledger> {
        let path = format!("/admin/v1/vouchers/{voucher}/ledger");
        let reply = self.admin_call(Method::GET, &path, Vec::new()).await?;
        read(&reply, StatusCode::OK, "reading the ledger")
    }

    /// Asks for a sale's ledger until it is so.
    ///
    /// # Errors
    /// When it is not within `deadline`; when it cannot be read.
    pub async fn until_ledger(
        &self,
        voucher: VoucherId,
        what: &str,
        deadline: Duration,
        is_so: impl Fn(&Ledger) -> bool,
    ) -> anyhow::Result<()> {
        let probe = async || {
            let ledger = self.ledger(voucher).await?;
            Ok(if is_so(&ledger) {
                Wait::Over(())
            } else {
                Wait::On(format!("the ledger of {voucher} says {ledger:?}"))
            })
        };
        wait_for(what, deadline, probe).await
    }

    /// An order's status as its buyer sees it; none when there is no such order.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn order_status(
        &self,
        order_id: OrderId,
        bearer: &str,
    ) -> anyhow::Result<Option<String>> {
        let path = format!("/api/v1/orders/{order_id}");
        self.status(&path, Some(bearer)).await
    }

    async fn voucher_status(&self, voucher: VoucherId) -> anyhow::Result<Option<String>> {
        self.status(&format!("/api/v1/vouchers/{voucher}"), None)
            .await
    }

    async fn status(&self, path: &str, bearer: Option<&str>) -> anyhow::Result<Option<String>> {
        let mut call = self
            .public
            .request(Method::GET, path.parse()?, Bytes::new());
        if let Some(bearer) = bearer {
            call.headers_mut()
                .insert(AUTHORIZATION, HeaderValue::try_from(bearer)?);
        }
        let reply = self.public.call(call).await?;
        if reply.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let found: Status = read(&reply, StatusCode::OK, path)?;
        Ok(Some(found.status))
    }

    async fn admin_call(&self, method: Method, path: &str, body: Vec<u8>) -> anyhow::Result<Reply> {
        let json = !body.is_empty();
        let mut call = self.admin.request(method, path.parse()?, body.into());
        let bearer = format!("Bearer {}", self.admin_token.expose());
        let headers = call.headers_mut();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(bearer)?);
        if json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.admin.call(call).await
    }
}

fn read<T: DeserializeOwned>(reply: &Reply, expected: StatusCode, what: &str) -> anyhow::Result<T> {
    if reply.status != expected {
        bail!(refusal(reply, what));
    }
    serde_json::from_slice(&reply.body)
        .with_context(|| format!("{what}: the answer is not as promised"))
}

fn refusal(reply: &Reply, what: &str) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    format!("{what}: HTTP {}: {body}", reply.status.as_u16())
}
