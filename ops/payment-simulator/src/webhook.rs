//! The provider's call: `POST /api/v1/payments/webhook`, signed as the contract says.

use anyhow::{Context, ensure};
use hmac::{Hmac, Mac};
use seckill_telemetry::settings::Secret;
use serde_json::json;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::pages::Payment;

pub(crate) struct Webhook {
    pub(crate) client: reqwest::Client,
    pub(crate) ingress_url: String,
    pub(crate) secret: Secret,
}

impl Webhook {
    /// Whether a buyer may be sent there: the shop, and nobody else.
    pub(crate) fn is_shop(&self, address: &str) -> bool {
        let rest = address.strip_prefix(&self.ingress_url);
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
                signature(&self.secret, now.unix_timestamp(), &body),
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

/// `t=<unix seconds>,v1=<hex HMAC-SHA256 of "t.body">`.
fn signature(secret: &Secret, unix_seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(format!("{unix_seconds}.{body}").as_bytes());
    format!(
        "t={unix_seconds},v1={}",
        hex::encode(mac.finalize().into_bytes())
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac webhook-secret
        let expected = "t=1700000000,v1=\
            2ff3101d20a9c9551ad8fbe65d513983f9ea07874c06dadf559d0c4e7f43181c";
        let secret = Secret::new("webhook-secret");
        assert_eq!(signature(&secret, 1_700_000_000, r#"{"a":1}"#), expected);
    }

    #[test]
    fn only_the_shop_is_gone_back_to() {
        let webhook = Webhook {
            client: reqwest::Client::new(),
            ingress_url: "http://127.0.0.1:8080".to_owned(),
            secret: Secret::new("webhook-secret"),
        };
        assert!(webhook.is_shop("http://127.0.0.1:8080/sales/7"));
        for elsewhere in [
            "http://127.0.0.1:80801/",
            "http://127.0.0.1:8080@evil.example/",
            "//evil.example",
            "javascript:alert(1)",
        ] {
            assert!(!webhook.is_shop(elsewhere), "{elsewhere}");
        }
    }
}
