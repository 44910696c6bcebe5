//! The three services over stores of their own.

use std::time::Duration;

use anyhow::{Context, Result};
use seckill_domain::VoucherId;
use seckill_testkit::{Service, TestStack};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::Client;

const PERIOD: Duration = Duration::from_millis(25);

/// How a sale is put up.
#[derive(Debug, Clone, Copy)]
pub struct SaleTerms {
    /// Units.
    pub stock: i64,
    /// The most units in one order.
    pub max_quantity: u32,
    /// The time to pay.
    pub hold_seconds: u32,
    /// Seconds from now until it opens; negative: it opened before.
    pub opens_in_seconds: i64,
}

impl Default for SaleTerms {
    fn default() -> Self {
        Self {
            stock: 10,
            max_quantity: 1,
            hold_seconds: 600,
            opens_in_seconds: -1,
        }
    }
}

/// Stores, an ingress, a projector and a timeout service.
#[derive(Debug)]
pub struct World {
    /// An HTTP client of the ingress.
    pub client: Client,
    /// The ingress.
    pub ingress: Service,
    /// The projector.
    pub projector: Service,
    /// The timeout service.
    pub timeout: Service,
    /// The stores. Dropped last.
    pub stack: TestStack,
}

impl World {
    /// Everything, started and ready.
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
        let mut builder = TestStack::builder();
        for (name, value) in settings {
            builder = builder.setting(name, value);
        }
        let stack = builder.start()?;
        let projector = stack.start_projector(&[])?;
        let timeout = stack.start_timeout(&[])?;
        let ingress = stack.start_ingress(&[])?;
        let client = Client::new(ingress.url(), ingress.admin_url(), |name| {
            stack.setting(name).to_owned()
        });
        Ok(Self {
            client,
            ingress,
            projector,
            timeout,
            stack,
        })
    }

    /// Puts a sale up and waits until Redis serves it.
    ///
    /// # Errors
    /// When it is refused or not served in time.
    pub async fn sale(&self, terms: SaleTerms) -> Result<VoucherId> {
        let now = OffsetDateTime::now_utc();
        let opens_at = now + time::Duration::seconds(terms.opens_in_seconds);
        let answer = self
            .client
            .admin_post(
                "/admin/v1/vouchers",
                &json!({
                    "title": "One of many", "price_cents": 1_000, "currency": "EUR",
                    "stock": terms.stock, "max_quantity": terms.max_quantity,
                    "opens_at": opens_at.format(&Rfc3339)?,
                    "closes_at": (now + time::Duration::hours(1)).format(&Rfc3339)?,
                    "hold_seconds": terms.hold_seconds,
                }),
            )
            .await?;
        let id = answer.body["voucher_id"].as_i64();
        let id = VoucherId::new(id.with_context(|| format!("no sale: {answer:?}"))?)?;
        eventually("the sale is served", || async {
            Ok(self.client.ledger(id).await?["redis_available"].is_i64())
        })
        .await?;
        Ok(id)
    }

    /// Waits until an order has a status, and gives the order.
    ///
    /// # Errors
    /// When it does not get there in time.
    pub async fn until_status(&self, user: u64, order_id: &str, status: &str) -> Result<Value> {
        let path = format!("/api/v1/orders/{order_id}");
        let what = format!("order {order_id} is {status}");
        eventually(&what, || async {
            Ok(self.client.get(user, &path).await?.body["status"] == status)
        })
        .await?;
        Ok(self.client.get(user, &path).await?.body)
    }

    /// Waits until everything that was granted is decided, and everything decided is carried out.
    ///
    /// # Errors
    /// When that is not so in time.
    pub async fn quiet(&self, voucher: VoucherId) -> Result<Value> {
        eventually("everything is decided and carried out", || async {
            let ledger = self.client.ledger(voucher).await?;
            let settled = ledger["in_flight"] == 0 && ledger["drift"] == 0;
            Ok(settled && ledger["consistent"] == true)
        })
        .await?;
        self.client.ledger(voucher).await
    }
}

/// Waits up to 60 s until a condition holds. An error of the condition counts as *not yet*, and is
/// told at the end.
///
/// # Errors
/// When it does not hold in time.
pub async fn eventually<F>(what: &str, mut condition: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let result = condition().await;
        if matches!(result, Ok(true)) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return match result {
                Ok(_) => Err(anyhow::anyhow!("not in time: {what}")),
                Err(error) => Err(error.context(format!("not in time: {what}"))),
            };
        }
        tokio::time::sleep(PERIOD).await;
    }
}
