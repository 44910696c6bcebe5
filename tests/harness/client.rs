//! The HTTP calls of a buyer, a payment provider and an operator.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use reqwest::{Method, RequestBuilder, Response};
use seckill_credentials::signature;
use seckill_credentials::token::{self, BuyerClaims};
use seckill_domain::VoucherId;
use serde_json::{Value, json};

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Content-Type` header.
    pub content_type: String,
    /// The headers that tests look at, by lower-case name.
    pub location: Option<String>,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// The body, or null if it is not JSON.
    pub body: Value,
}

impl Answer {
    async fn read(response: Response) -> Result<Self> {
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let (content_type, location) = (header("content-type"), header("location"));
        let retry_after = header("retry-after");
        let status = response.status().as_u16();
        let text = response.text().await?;
        Ok(Self {
            status,
            content_type: content_type.unwrap_or_default(),
            location,
            retry_after,
            body: serde_json::from_str(&text).unwrap_or(Value::Null),
        })
    }

    /// The `order_id` of the body, if it has one.
    #[must_use]
    pub fn order_id(&self) -> Option<&str> {
        self.body["order_id"].as_str()
    }

    /// The last part of a problem's `type`. Empty if the answer is not a problem.
    #[must_use]
    pub fn problem(&self) -> &str {
        let uri = self.body["type"].as_str().unwrap_or_default();
        uri.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is a planned refusal, because a store is down or the service is overloaded. Such a refusal says when
    /// to try again.
    #[must_use]
    pub fn is_planned_503(&self) -> bool {
        let planned = ["unavailable", "overloaded"].contains(&self.problem());
        self.status == 503 && planned && self.retry_after.is_some()
    }

    /// Whether it promises the units.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.status == 202 && self.body["status"] == "reserved"
    }
}

/// Calls one ingress.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The public listener.
    pub url: String,
    /// The admin listener.
    pub admin_url: String,
    token_secret: String,
    webhook_secret: String,
    admin_token: String,
}

impl Client {
    /// A client with the secrets of an environment.
    #[must_use]
    pub fn new(url: String, admin_url: String, setting: impl Fn(&str) -> String) -> Self {
        Self {
            http: reqwest::Client::new(),
            url,
            admin_url,
            token_secret: setting("TOKEN_SECRET"),
            webhook_secret: setting("PAYMENT_WEBHOOK_SECRET"),
            admin_token: setting("ADMIN_TOKEN"),
        }
    }

    /// A bearer token for a user, good for an hour.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, user: u64) -> Result<String> {
        let now = unix_seconds();
        let claims = BuyerClaims::new(user, now, Duration::from_secs(3600));
        Ok(token::sign(&self.token_secret, &claims)?)
    }

    /// A token with any claims.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        Ok(token::sign(&self.token_secret, claims)?)
    }

    /// A request to the public listener, to be completed by the test.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request and reads its answer. If the client has opened a connection in advance, the server may close it
    /// at the same moment with a 408 without a body. It has read nothing then, so the request is sent again, as
    /// browsers do.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        let again = request.try_clone();
        let answer = Answer::read(request.send().await?).await?;
        match again {
            Some(again) if answer.status == 408 && answer.content_type.is_empty() => {
                Answer::read(again.send().await?).await
            }
            _ => Ok(answer),
        }
    }

    /// GET as a user.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, user: u64, path: &str) -> Result<Answer> {
        let request = self.request(Method::GET, path);
        self.send(request.bearer_auth(self.token(user)?)).await
    }

    /// Orders `quantity` units.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn order(
        &self,
        voucher: VoucherId,
        user: u64,
        key: Option<&str>,
        quantity: u32,
    ) -> Result<Answer> {
        let request = self.ordering(voucher, user, key)?;
        self.send(request.json(&json!({ "quantity": quantity })))
            .await
    }

    /// Orders one unit, as a sale's page does.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn order_from_page(
        &self,
        voucher: VoucherId,
        user: u64,
        key: &str,
        sale_token: &str,
    ) -> Result<Answer> {
        let request = self.ordering(voucher, user, Some(key))?;
        self.send(request.header("X-Sale-Token", sale_token)).await
    }

    fn ordering(&self, voucher: VoucherId, user: u64, key: Option<&str>) -> Result<RequestBuilder> {
        let path = format!("/api/v1/vouchers/{voucher}/orders");
        let request = self.request(Method::POST, &path);
        let request = request.bearer_auth(self.token(user)?);
        Ok(match key {
            Some(key) => request.header("Idempotency-Key", key),
            None => request,
        })
    }

    /// A token for one order of a sale.
    ///
    /// # Errors
    /// When there is none.
    pub async fn sale_token(&self, voucher: VoucherId, user: u64) -> Result<String> {
        let path = format!("/api/v1/vouchers/{voucher}/sale-token");
        let answer = self.get(user, &path).await?;
        let token = answer.body["sale_token"].as_str();
        Ok(token.with_context(|| format!("{answer:?}"))?.to_owned())
    }

    /// Orders one unit for each of many users at the same time. Returns the answers in the order of the users, without
    /// those whose connections broke.
    pub async fn orders(&self, voucher: VoucherId, users: Range<u64>) -> Vec<Answer> {
        let order = |user| {
            let client = self.clone();
            tokio::spawn(async move { client.order(voucher, user, None, 1).await })
        };
        let buyers: Vec<_> = users.map(order).collect();
        let mut answers = Vec::with_capacity(buyers.len());
        for buyer in buyers {
            answers.extend(buyer.await.ok().and_then(Result::ok));
        }
        answers
    }

    /// Cancels an order.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn cancel(&self, user: u64, order_id: &str) -> Result<Answer> {
        let request = self.request(Method::POST, &format!("/api/v1/orders/{order_id}/cancel"));
        self.send(request.bearer_auth(self.token(user)?)).await
    }

    /// Reports a successful payment, as the provider does.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn pay(&self, order_id: &str, payment_id: &str, amount_cents: i64) -> Result<Answer> {
        self.pay_in(order_id, payment_id, (amount_cents, "EUR"))
            .await
    }

    /// The same in another currency.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn pay_in(
        &self,
        order_id: &str,
        payment_id: &str,
        (amount_cents, currency): (i64, &str),
    ) -> Result<Answer> {
        let body = json!({
            "payment_id": payment_id, "order_id": order_id, "amount_cents": amount_cents,
            "currency": currency, "paid_at": "2026-01-01T00:00:00Z",
        })
        .to_string();
        let signature = self.signature(unix_seconds(), &body)?;
        let request = self.request(Method::POST, "/api/v1/payments/webhook");
        let request = request.header("X-Signature", signature);
        let request = request
            .header("Content-Type", "application/json")
            .body(body);
        self.send(request).await
    }

    /// The `X-Signature` of a body at a Unix second.
    ///
    /// # Errors
    /// When the second is out of range.
    pub fn signature(&self, at: u64, body: &str) -> Result<String> {
        let at = i64::try_from(at)?;
        Ok(signature::sign(&self.webhook_secret, at, body.as_bytes()))
    }

    /// POST to the admin listener.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn admin_post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.admin_post_with(path, body, &[]).await
    }

    /// The same with headers.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn admin_post_with(
        &self,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.admin_url));
        let request = request.bearer_auth(&self.admin_token).json(body);
        let named =
            |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
        self.send(headers.iter().fold(request, named)).await
    }

    /// GET from the admin listener.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn admin_get(&self, path: &str) -> Result<Answer> {
        let request = self.http.get(format!("{}{path}", self.admin_url));
        self.send(request.bearer_auth(&self.admin_token)).await
    }

    /// The ledger of a sale.
    ///
    /// # Errors
    /// When there is none.
    pub async fn ledger(&self, voucher: VoucherId) -> Result<Value> {
        let answer = self
            .admin_get(&format!("/admin/v1/vouchers/{voucher}/ledger"))
            .await?;
        anyhow::ensure!(answer.status == 200, "no ledger: {answer:?}");
        Ok(answer.body)
    }
}

/// Now, in whole seconds.
pub(crate) fn unix_seconds() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch
        .context("the clock stands before 1970")
        .map_or(0, |d| d.as_secs())
}
