//! The payment provider's part: signed webhooks.

use seckill_credentials::signature;
use seckill_domain::OrderId;
use seckill_service::settings::Secret;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::evidence::PaymentRecord;
use crate::client::Endpoint;
use crate::load::{Calls, Reply};

const WEBHOOK_PATH: &str = "/api/v1/payments/webhook";

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
    head: Vec<u8>,
    /// Of which payment, its body, its signature.
    calls: Vec<(usize, Vec<u8>, String)>,
}

impl PaymentCalls {
    /// One call for each index into `payments` in `order`; an index may come twice.
    ///
    /// # Errors
    /// Never: what is sent is made here and well formed.
    pub(super) fn new(
        endpoint: &Endpoint,
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
            Ok((*index, body, signature))
        };
        Ok(Self {
            head: endpoint.request_head("POST", WEBHOOK_PATH),
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

    fn write(&self, index: usize, request: &mut Vec<u8>) {
        let (_, body, signature) = &self.calls[index];
        request.extend_from_slice(&self.head);
        let length = body.len();
        let headers = format!(
            "content-type: application/json\r\nx-signature: {signature}\r\ncontent-length: {length}\r\n\r\n"
        );
        request.extend_from_slice(headers.as_bytes());
        request.extend_from_slice(body);
    }

    fn answer(&self, _index: usize, reply: Option<&Reply<'_>>) -> bool {
        reply.is_some_and(|reply| reply.status == 202)
    }
}
