//! Placing an order and cancelling it.

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{Event, EventBody, OrderCancelled, OrderStatus, VoucherId};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Number, json};

use crate::http::middleware::trace_of;
use crate::http::representation::OrderBody;
use crate::http::{App, events, request};
use crate::limits::Standing;
use crate::problem::Problem;
use crate::reads::OrderView;
use crate::reservations::{PlaceError, PlaceOrder};
use crate::{body, rfc3339};

/// The body of an order; an empty one is `{"quantity":1}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OrderRequest {
    #[serde(default = "one", deserialize_with = "units")]
    quantity: u32,
}

const fn one() -> u32 {
    1
}

/// Any integer. One that no order can have is moved to the nearest that the script refuses with
/// the sale's limit, so that 0, -1 and 10^30 are answered alike.
fn units<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    let number = Number::deserialize(from)?;
    if let Some(signed) = number.as_i64() {
        return Ok(u32::try_from(signed.max(0)).unwrap_or(u32::MAX));
    }
    // Integers beyond 64 bits arrive as floating point, and so do fractions, all below 2^53.
    match number.as_f64() {
        Some(beyond) if beyond >= 9e18 => Ok(u32::MAX),
        Some(beyond) if beyond <= -9e18 => Ok(0),
        _ => Err(D::Error::custom("quantity has to be a whole number")),
    }
}

/// `POST /api/v1/vouchers/{id}/orders`.
///
/// # Errors
/// Every refusal of an order.
pub async fn place(
    app: web::Data<App>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let (answer, standing) = match admit_address(&app, &http) {
        Ok(mut standing) => {
            let answer = try_place(&app, &http, payload, &mut standing).await;
            (answer, standing)
        }
        Err(refusal) => (Err(refusal), Standing::default()),
    };
    let name = match &answer {
        Ok((_, status)) => *status,
        Err(problem) => problem.name(),
    };
    metrics::counter!("seckill_orders_total", "answer" => name).increment(1);
    let headers = standing.headers();
    match answer {
        Ok((mut response, _)) => {
            for (name, value) in headers.into_iter().flatten() {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        }
        // Its own headers say which limit it was.
        Err(problem) if problem.name() == Problem::RATE_LIMITED => Err(problem),
        Err(problem) => Err(headers.into_iter().flatten().fold(problem, Problem::with)),
    }
}

/// Before anything is done for the caller, also before the token's signature is computed.
fn admit_address(app: &App, http: &HttpRequest) -> Result<Standing, Problem> {
    app.limits.admit_address(app.trusted_proxies.client(http))
}

async fn try_place(
    app: &App,
    http: &HttpRequest,
    payload: web::Payload,
    standing: &mut Standing,
) -> Result<(HttpResponse, &'static str), Problem> {
    let user_id = app.tokens.authenticate(http)?;
    let voucher_id = request::voucher_id(http)?;
    app.limits.admit_order(user_id, voucher_id, standing)?;
    let address = app.trusted_proxies.client(http);
    app.risk
        .admit(user_id, voucher_id, address, trace_of(http))?;
    let quantity = body::optional_json::<OrderRequest>(http, payload)
        .await?
        .map_or(1, |order| order.quantity);
    let key_hash = request::key_hash(http.headers())?;
    let order = PlaceOrder {
        user_id,
        quantity,
        key_hash,
        traceparent: trace_of(http),
    };
    let placed = match app.reservations.place(voucher_id, order).await {
        Ok(placed) => placed,
        Err(refusal) => return Err(refused(app, voucher_id, refusal).await),
    };
    let status = if placed.reserved {
        "reserved"
    } else {
        "pending"
    };
    let response = HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api/v1/orders/{}", placed.order_id)))
        .json(json!({
            "order_id": placed.order_id.to_string(),
            "status": status,
            "pay_by": rfc3339::format(placed.pay_by),
        }));
    Ok((response, status))
}

async fn refused(app: &App, voucher_id: VoucherId, refusal: PlaceError) -> Problem {
    match refusal {
        PlaceError::Closed => why_closed(app, voucher_id).await,
        PlaceError::Overloaded => {
            Problem::unavailable("Too many orders are under way: try again in a moment.")
        }
        PlaceError::Unavailable => {
            Problem::unavailable("Orders cannot be taken right now: repeat it in a moment.")
        }
        PlaceError::KeyReused => Problem::key_reused(),
        PlaceError::AlreadyOrdered { order_id } => Problem::already_ordered(order_id),
        PlaceError::Ended => Problem::ended(),
        PlaceError::NotStarted { opens_at } => Problem::not_started(opens_at),
        PlaceError::QuantityLimit { max_quantity } => Problem::quantity_limit(max_quantity),
        PlaceError::SoldOut => Problem::sold_out(),
    }
}

/// Redis does not serve the sale: PostgreSQL knows whether that is for now or for good.
pub(super) async fn why_closed(app: &App, voucher_id: VoucherId) -> Problem {
    match app.reads.sale(voucher_id).await {
        Ok(None) => Problem::not_found("There is no such voucher."),
        Ok(Some(row)) if row.retired => Problem::ended(),
        Ok(Some(_)) => {
            Problem::unavailable("The sale's stock is being loaded: try again in a moment.")
        }
        Err(error) => error.into(),
    }
}

/// `POST /api/v1/orders/{id}/cancel`.
///
/// # Errors
/// `unauthorized`, `not-found`, `not-cancellable`, `unavailable`.
pub async fn cancel(app: web::Data<App>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let user_id = app.tokens.authenticate(&http)?;
    let order_id = request::order_id(&http)?;
    let found = app.reads.order(order_id, user_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("You have no such order."))?;
    match &view {
        OrderView::Pending(_) => {
            return Err(Problem::not_cancellable(
                "The order is not reserved yet: cancel it when its status is unpaid.",
            ));
        }
        OrderView::Decided { order, .. } if order.status != OrderStatus::Unpaid => {
            return Err(Problem::not_cancellable(format!(
                "The order is {} already.",
                order.status.as_str()
            )));
        }
        OrderView::Decided { .. } => {}
    }
    let cancelled = EventBody::OrderCancelled(OrderCancelled { order_id, user_id });
    let event: Event = events::now(order_id.voucher_id(), cancelled);
    let trace = trace_of(&http);
    app.reservations.publish(event, trace).await?;
    tracing::info!(%trace, %order_id, %user_id, "cancellation is in the log");
    Ok(HttpResponse::Accepted().json(OrderBody::from(&view)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantity(json: &str) -> Option<u32> {
        let parsed = serde_json::from_str::<OrderRequest>(json);
        parsed.ok().map(|order| order.quantity)
    }

    #[test]
    fn every_integer_is_a_quantity_and_nothing_else_is() {
        assert_eq!(quantity("{}"), Some(1));
        assert_eq!(quantity(r#"{"quantity":3}"#), Some(3));
        for below in ["0", "-1", "-9223372036854775808", "-1000000000000000000000"] {
            let json = format!(r#"{{"quantity":{below}}}"#);
            assert_eq!(quantity(&json), Some(0), "{below}");
        }
        for above in [
            "4294967296",
            "18446744073709551615",
            "1000000000000000000000",
        ] {
            let json = format!(r#"{{"quantity":{above}}}"#);
            assert_eq!(quantity(&json), Some(u32::MAX), "{above}");
        }
        for bad in ["1.5", "1.0", "\"1\"", "null", "true", "[1]"] {
            let json = format!(r#"{{"quantity":{bad}}}"#);
            assert_eq!(quantity(&json), None, "{bad}");
        }
        assert_eq!(quantity(r#"{"quantity":1,"price":0}"#), None);
    }
}
