//! The payment provider's webhook.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{Currency, EventBody, Money, OrderId, OrderPaid, PaymentId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::http::problem::{FieldError, Problem};
use crate::http::trace::trace_of;
use crate::http::{body, events, rfc3339};
use crate::payments::Payments;
use crate::payments::webhook::SignatureError;

/// How long PostgreSQL is asked whether the payment is known, and whether the order is.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

/// A payment that succeeded. More members are allowed: providers add some.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = Payment, example = json!({
    "payment_id": "pay-1", "order_id": "00000000-0700-8000-8000-040000000001",
    "amount_cents": 1998, "currency": "EUR", "paid_at": "2026-05-01T10:05:00Z",
}))]
pub(crate) struct PaymentRequest {
    /// The provider's own: the same again is the same payment.
    #[schema(min_length = 1, max_length = 64, pattern = "^[!-~]+$")]
    payment_id: String,
    /// Begins with the voucher id, of which there is no 0.
    #[schema(
        pattern = "^(?!00000000-00)[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"
    )]
    order_id: String,
    /// In minor units of the currency by ISO 4217: 4900 is €49.00, ¥4900 or KWD 4.900.
    #[schema(minimum = 0)]
    amount_cents: i64,
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// From 1970 to 9999 in UTC.
    #[schema(format = DateTime, pattern = "^(19[7-9][0-9]|[2-9][0-9]{3})-")]
    paid_at: String,
}

/// An empty answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recorded {}

/// Takes the payment provider's message that a payment succeeded.
///
/// The message is only recorded here. Whether the payment is honoured is decided in the log; for a payment that is
/// not honoured a refund is due. A provider that gets no 202 has to repeat the message. A payment is for one order.
///
/// # Errors
/// `unauthorized`, `invalid-request`, `payment-id-reused`, `unavailable`.
#[utoipa::path(
    post,
    path = "/api/v1/payments/webhook",
    operation_id = "recordPayment",
    tag = "Payments",
    request_body = PaymentRequest,
    responses((status = 202, description = "The payment is in the log.", body = Recorded)),
    extensions(("x-problems" = json!(["payment-id-reused"]))),
    security(("webhookSignature" = [])),
)]
pub async fn webhook(
    payments: web::Data<Payments>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    // A request without a plausible signature takes no place of a payment, however slow its body is.
    let now_unix_seconds = OffsetDateTime::now_utc().unix_timestamp();
    let claim = payments.webhook.claim(http.headers(), now_unix_seconds);
    let claim = claim.map_err(unsigned)?;
    let body = body::read_raw(&http, payload, body::PROVIDER_DEADLINE).await?;
    payments.webhook.check(&claim, &body).map_err(unsigned)?;
    let _place = payments.gate.admission.payment()?;
    body::check_is_json(&http)?;
    let paid = payment(body::parse(&body)?).map_err(|errors| Problem::invalid_fields(&errors))?;
    refuse_for_another_order(&payments, &paid).await?;
    publish_order_first(&payments, paid.order_id).await?;
    let trace = trace_of(&http);
    let (order_id, payment_id) = (paid.order_id, paid.payment_id.clone());
    let event = events::now(order_id.voucher_id(), EventBody::OrderPaid(paid))?;
    payments.reservations.publish(event, trace).await?;
    tracing::info!(%trace, %order_id, %payment_id, "payment is in the log");
    Ok(HttpResponse::Accepted().json(Recorded {}))
}

/// The fold accepts a payment id once in a sale, for the first order, and ignores later events with the same id. So
/// such a request must not be answered 202. If PostgreSQL does not answer, the payment is recorded.
async fn refuse_for_another_order(payments: &Payments, paid: &OrderPaid) -> Result<(), Problem> {
    let (voucher, payment) = (paid.order_id.voucher_id(), paid.payment_id.clone());
    let look = payments.reads.with_orderbook(move |orderbook| async move {
        orderbook.order_of_payment(voucher, &payment).await
    });
    match tokio::time::timeout(LOOK_TIMEOUT, look).await {
        Ok(Ok(Some(known))) if known != paid.order_id => Err(Problem::payment_id_reused(known)),
        _ => Ok(()),
    }
}

/// An order that was answered *pending* may be paid before its event is in the log. The event goes first, because the
/// fold gives back a payment for an order that it does not know. If PostgreSQL does not answer, the payment is recorded.
async fn publish_order_first(payments: &Payments, order: OrderId) -> Result<(), Problem> {
    let known = payments.reads.is_known_or_never(order);
    match tokio::time::timeout(LOOK_TIMEOUT, known).await {
        Ok(Ok(false)) => Ok(payments.reservations.publish_if_pending(order).await?),
        _ => Ok(()),
    }
}

fn unsigned(_: SignatureError) -> Problem {
    Problem::unauthorized(
        "Send X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of \"t.body\"> of this moment, or the \
         headers of Standard Webhooks.",
    )
}

fn payment(request: PaymentRequest) -> Result<OrderPaid, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut wrong = |field, detail: String| errors.push(FieldError::new(field, detail));
    let payment_id = PaymentId::new(request.payment_id)
        .map_err(|error| wrong("payment_id", error.to_string()))
        .ok();
    let order_id = request
        .order_id
        .parse::<OrderId>()
        .map_err(|error| wrong("order_id", error.to_string()))
        .ok();
    let currency = request
        .currency
        .parse::<Currency>()
        .map_err(|error| wrong("currency", error.to_string()))
        .ok();
    if request.amount_cents < 0 {
        wrong(
            "amount_cents",
            "an amount in minor units is 0 or more".to_owned(),
        );
    }
    let amount = currency.and_then(|currency| Money::new(request.amount_cents, currency).ok());
    let paid_at = rfc3339::parse(&request.paid_at)
        .map_err(|expected| wrong("paid_at", expected.to_owned()))
        .ok();
    match (order_id, payment_id, amount, paid_at) {
        (Some(order_id), Some(payment_id), Some(amount), Some(paid_at)) => Ok(OrderPaid {
            order_id,
            payment_id,
            amount,
            paid_at,
        }),
        _ => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::VoucherId;

    #[test]
    fn every_wrong_member_is_named() {
        let errors = payment(PaymentRequest {
            payment_id: String::new(),
            order_id: "7".to_owned(),
            amount_cents: -1,
            currency: "euro".to_owned(),
            paid_at: "0001-01-01T00:00:00Z".to_owned(),
        })
        .unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| &*error.field).collect();
        assert_eq!(
            fields,
            [
                "payment_id",
                "order_id",
                "currency",
                "amount_cents",
                "paid_at"
            ]
        );
    }

    #[test]
    fn a_payment_of_nothing_is_a_payment() {
        let order_id = OrderId::from_parts(VoucherId::new(7).unwrap(), 1, 1);
        let paid = payment(PaymentRequest {
            payment_id: "p-1".to_owned(),
            order_id: order_id.to_string(),
            amount_cents: 0,
            currency: "EUR".to_owned(),
            paid_at: "2026-05-01T10:05:00Z".to_owned(),
        })
        .unwrap();
        assert_eq!((paid.order_id, paid.amount.cents()), (order_id, 0));
    }
}
