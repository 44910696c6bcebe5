//! The provider's call: `POST /api/v1/payments/webhook`, signed as the contract says.

use anyhow::{Context, ensure};
use seckill_credentials::signature;
use seckill_service::settings::Secret;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::payment::Payment;

pub(crate) struct Webhook {
    pub(crate) client: reqwest::Client,
    pub(crate) ingress_url: String,
    /// Where buyers see it.
    pub(crate) shop_url: String,
    pub(crate) secret: Secret,
}

impl Webhook {
    /// Whether a buyer may be sent there: the shop, and nobody else.
    pub(crate) fn is_shop(&self, address: &str) -> bool {
        let rest = address.strip_prefix(&self.shop_url);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Says that the order was paid, under a payment id of its own.
    pub(crate) async fn send(&self, payment: &Payment) -> anyhow::Result<()> {
        let now = OffsetDateTime::now_utc();
        let body = json!({
            "payment_id": format!("sim-{}", uuid::Uuid::new_v4()),
            "order_id": payment.order_id,
            "amount_cents": payment.amount_cents,
            "currency": payment.currency,
            "paid_at": now.format(&Rfc3339)?,
        })
        .to_string();
        let answer = self
            .client
            .post(format!("{}/api/v1/payments/webhook", self.ingress_url))
            .header("content-type", "application/json")
            .header(
                "x-signature",
                signature::sign(self.secret.expose(), now.unix_timestamp(), body.as_bytes()),
            )
            .body(body)
            .send()
            .await
            .context("the shop does not answer: is INGRESS_URL right?")?;
        let status = answer.status();
        ensure!(
            status == reqwest::StatusCode::ACCEPTED,
            "the shop answered {status} {}",
            answer.text().await.unwrap_or_default()
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shop_is_gone_back_to() {
        let webhook = Webhook {
            client: reqwest::Client::new(),
            ingress_url: "http://ingress:8080".to_owned(),
            shop_url: "http://127.0.0.1:8080".to_owned(),
            secret: Secret::new("webhook-secret"),
        };
        assert!(webhook.is_shop("http://127.0.0.1:8080/sales/7"));
        for elsewhere in [
            "http://127.0.0.1:80801/",
            "http://127.0.0.1:8080@evil.example/",
            "//evil.example",
            "http://ingress:8080/sales/7",
            "javascript:alert(1)",
        ] {
            assert!(!webhook.is_shop(elsewhere), "{elsewhere}");
        }
    }
}
