//! Placing an order.

use std::cell::RefCell;
use std::collections::HashMap;

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use seckill_domain::{OrderStatus, Refusal, UserId};
use seckill_metrics::Counter;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use serde_json::Number;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::gate::Admitted;
use crate::gate::limits::Standing;
use crate::gate::risk::Origin;
use crate::gate::sale_tokens::PageProof;
use crate::http::problem::Problem;
use crate::http::schema::one_of;
use crate::http::{body, request, rfc3339};
use crate::metrics;
use crate::orders::Orders;
use crate::orders::representation::PENDING;
use crate::orders::reservations::{self, PlaceError, PlaceOrder, PlacedState};
use crate::reads::OrderView;

/// The body of an order; an empty one is `{"quantity":1}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrderRequest {
    /// Units, up to the sale's `max_quantity`.
    #[serde(default = "one", deserialize_with = "units")]
    #[schema(default = 1, minimum = 1, maximum = 1000)]
    quantity: u32,
}

/// An order that was taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "order_id": "00000000-0700-8000-8000-040000000001", "status": "reserved",
    "pay_by": "2026-05-01T10:15:00Z",
}))]
pub(crate) struct Placed {
    #[schema(format = "uuid")]
    order_id: String,
    #[schema(schema_with = placed_status)]
    status: &'static str,
    /// Until when it may be paid.
    #[schema(format = DateTime)]
    pay_by: String,
}

const RESERVED: &str = "reserved";

fn placed_status() -> Object {
    let ended = OrderStatus::ALL
        .into_iter()
        .filter(|status| *status != OrderStatus::Unpaid);
    one_of(
        "reserved: the units are the buyer's until pay_by, whatever happens here. pending: they are held, but \
         the log has not confirmed it in time; the order's status comes to an end. The others: the key is \
         that of an earlier order, which has ended so.",
        [RESERVED, PENDING]
            .into_iter()
            .chain(ended.map(OrderStatus::as_str)),
    )
}

const fn one() -> u32 {
    1
}

/// Any integer. A number that no order can have is replaced by the nearest one that the script refuses with
/// the sale's limit, so that 0, -1 and 10^30 get the same answer.
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

/// The problems that an order may be answered with.
fn why_not_placed() -> Vec<&'static str> {
    let others = ["denied", "invalid-request", "not-found", "rate-limited"];
    let refusals = Refusal::examples().map(Refusal::name);
    refusals.into_iter().chain(others).collect()
}

/// Orders units of a voucher.
///
/// The same `Idempotency-Key` again returns the same order, also after the order has ended: `status` says how it
/// ended. `X-Sale-Token` is needed if the sale says so.
///
/// # Errors
/// Every refusal of an order.
#[utoipa::path(
    post,
    path = "/api/v1/vouchers/{voucher_id}/orders",
    operation_id = "placeOrder",
    tag = "Orders",
    request_body(content = Option<OrderRequest>, description = "May be left out: one unit."),
    responses((status = 202, description = "The order is taken: see `status`.", body = Placed)),
    security(("token" = [])),
    extensions(
        ("x-parameters" = json!(["Idempotency-Key", "X-Sale-Token"])),
        ("x-headers" = json!({
            "202": ["Location"],
            "*": ["RateLimit", "RateLimit-Policy", "X-Renewed-Token"],
        })),
        ("x-problems" = json!(why_not_placed())),
    ),
)]
pub async fn place(
    orders: web::Data<Orders>,
    http: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let mut standing = Standing::default();
    let answer = try_place(&orders, &http, payload, &mut standing).await;
    let name = match &answer {
        Ok((_, status)) => status,
        Err(problem) => problem.name(),
    };
    ANSWERS.with_borrow_mut(|answers| {
        let counter = || metrics::ORDERS.with([name]);
        answers.entry(name).or_insert_with(counter).increment(1);
    });
    let headers = standing.headers();
    match answer {
        Ok((mut response, _)) => {
            for (name, value) in headers.into_iter().flatten() {
                response.headers_mut().insert(name, value);
            }
            Ok(response)
        }
        // The headers of the refusal say which limit it was.
        Err(problem) if problem.name() == Problem::RATE_LIMITED => Err(problem),
        Err(problem) => Err(headers.into_iter().flatten().fold(problem, Problem::with)),
    }
}

thread_local! {
    /// Counters are stored here, because a look-up by name takes longer than counting.
    static ANSWERS: RefCell<HashMap<&'static str, Counter>> = RefCell::default();
}

async fn try_place(
    orders: &Orders,
    http: &HttpRequest,
    payload: web::Payload,
    standing: &mut Standing,
) -> Result<(HttpResponse, &'static str), Problem> {
    let Admitted { origin, proof } = orders.gate.admit(http, standing).await?;
    let quantity = body::optional_json::<OrderRequest>(http, payload)
        .await?
        .map_or(1, |order| order.quantity);
    let key_hash = request::key_hash(http.headers())?;
    let order = PlaceOrder {
        user_id: origin.user,
        quantity,
        key_hash,
        traceparent: origin.trace,
        sale_token: proof.nonce(),
    };
    let placed = match orders.reservations.place(origin.voucher, order).await {
        Ok(placed) => placed,
        Err(refusal) => return Err(refused(orders, origin, proof, refusal).await),
    };
    let status = match placed.state {
        PlacedState::Reserved => RESERVED,
        PlacedState::Pending => PENDING,
        PlacedState::Released => how_it_ended(orders, origin.user, &placed).await,
    };
    let response = HttpResponse::Accepted()
        .insert_header((LOCATION, format!("/api/v1/orders/{}", placed.order_id)))
        .json(Placed {
            order_id: placed.order_id.to_string(),
            status,
            pay_by: rfc3339::format(placed.pay_by),
        });
    Ok((response, status))
}

/// An order for which the key was used before, and whose units are free again.
async fn how_it_ended(orders: &Orders, user: UserId, order: &reservations::Placed) -> &'static str {
    match orders.reads.order(order.order_id, user).await {
        Ok(Some(OrderView::Decided { order, .. })) if order.status.is_final() => {
            order.status.as_str()
        }
        // PostgreSQL is unavailable, or was restored: the buyer can read the order's status later.
        _ => PENDING,
    }
}

async fn refused(
    orders: &Orders,
    origin: Origin,
    proof: PageProof,
    refusal: PlaceError,
) -> Problem {
    match refusal {
        PlaceError::NotServed => orders.reads.why_not_served(origin.voucher).await,
        PlaceError::Overloaded => Problem::overloaded(),
        PlaceError::Unavailable => {
            Problem::unavailable("Orders cannot be taken right now: repeat it in a moment.")
        }
        PlaceError::Refused(refusal) => {
            let problem = Problem::refused(refusal, origin.voucher, proof.as_str());
            match refusal {
                Refusal::TokenRequired | Refusal::TokenUsed => origin.denied(problem),
                _ => problem,
            }
        }
    }
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
