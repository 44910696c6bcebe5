//! The payment provider's part: signed webhooks.

use std::sync::Arc;

use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use seckill_credentials::signature;
use seckill_domain::OrderId;
use seckill_telemetry::settings::Secret;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::evidence::PaymentRecord;
use crate::client::{Call, Calls, Endpoint, Reply};

const WEBHOOK_PATH: &str = "/api/v1/payments/webhook";
const X_SIGNATURE: HeaderName = HeaderName::from_static("x-signature");

#[derive(Serialize)]
struct Webhook<'a> {
    payment_id: &'a str,
    order_id: OrderIdText,
    amount_cents: i64,
    currency: &'static str,
    paid_at: &'a str,
}

/// Order ids travel as text.
struct OrderIdText(OrderId);

impl Serialize for OrderIdText {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The provider's calls, signed before the first one is made.
#[derive(Debug)]
pub(super) struct PaymentCalls {
    endpoint: Arc<Endpoint>,
    path: Uri,
    /// Of which payment, its body, its signature.
    calls: Vec<(usize, Bytes, HeaderValue)>,
}

impl PaymentCalls {
    /// One call for each index into `payments` in `order`; an index may come twice.
    ///
    /// # Errors
    /// Never: what is sent is made here and well formed.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        secret: &Secret,
        currency: &'static str,
        payments: &[PaymentRecord],
        order: &[usize],
    ) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc();
        let paid_at = now.format(&Rfc3339)?;
        let call = |index: &usize| {
            let payment = &payments[*index];
            let body = serde_json::to_vec(&Webhook {
                payment_id: &payment.payment_id,
                order_id: OrderIdText(payment.order_id),
                amount_cents: payment.amount_cents,
                currency,
                paid_at: &paid_at,
            })?;
            let signature = signature::sign(secret.expose(), now.unix_timestamp(), &body);
            Ok((*index, body.into(), HeaderValue::try_from(signature)?))
        };
        Ok(Self {
            endpoint,
            path: Uri::from_static(WEBHOOK_PATH),
            calls: order.iter().map(call).collect::<anyhow::Result<_>>()?,
        })
    }

    /// The payment that a call reports.
    #[must_use]
    pub(super) fn payment(&self, index: usize) -> usize {
        self.calls[index].0
    }
}

impl Calls for PaymentCalls {
    /// Whether the ingress took it.
    type Answer = bool;

    fn len(&self) -> usize {
        self.calls.len()
    }

    fn call(&self, index: usize) -> Call {
        let (_, body, signature) = &self.calls[index];
        let mut call = self
            .endpoint
            .request(Method::POST, self.path.clone(), body.clone());
        let headers = call.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(X_SIGNATURE, signature.clone());
        call
    }

    fn answer(&self, _index: usize, reply: Option<Reply>) -> bool {
        reply.is_some_and(|reply| reply.status == StatusCode::ACCEPTED)
    }
}
