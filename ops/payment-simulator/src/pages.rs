//! The page with the Pay button, and what the button does.

use actix_web::http::header::{ContentType, LOCATION};
use actix_web::{HttpResponse, web};
use askama::Template;

use crate::payment::Payment;
use crate::webhook::Webhook;

/// Nothing on the page needs more; after the form the browser goes back to the shop.
const CONTENT_SECURITY_POLICY: (&str, &str) = (
    "content-security-policy",
    "default-src 'none'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
);

#[derive(Template)]
#[template(path = "pay.html")]
struct PayPage<'a> {
    order_id: &'a str,
    amount_cents: i64,
    currency: &'a str,
    amount: String,
    return_to: &'a str,
}

/// `GET /pay`.
pub(crate) async fn show(
    webhook: web::Data<Webhook>,
    payment: web::Query<Payment>,
) -> HttpResponse {
    if !webhook.is_shop(&payment.return_to) {
        return HttpResponse::BadRequest().body("return_to is not an address of the shop\n");
    }
    let page = PayPage {
        order_id: &payment.order_id,
        amount_cents: payment.amount_cents,
        currency: &payment.currency,
        amount: payment.amount(),
        return_to: &payment.return_to,
    };
    match page.render() {
        Ok(html) => HttpResponse::Ok()
            .content_type(ContentType::html())
            .insert_header(CONTENT_SECURITY_POLICY)
            .body(html),
        Err(error) => HttpResponse::InternalServerError().body(format!("{error}\n")),
    }
}

/// `POST /pay`: the webhook, then back to the shop.
pub(crate) async fn pay(webhook: web::Data<Webhook>, payment: web::Form<Payment>) -> HttpResponse {
    if !webhook.is_shop(&payment.return_to) {
        return HttpResponse::BadRequest().body("return_to is not an address of the shop\n");
    }
    match webhook.send(&payment).await {
        Ok(()) => HttpResponse::SeeOther()
            .insert_header((LOCATION, payment.return_to.as_str()))
            .finish(),
        Err(error) => {
            tracing::warn!(error = %format!("{error:#}"), "not paid");
            HttpResponse::BadGateway()
                .body(format!("Not paid: {error:#}. Go back and try again.\n"))
        }
    }
}
