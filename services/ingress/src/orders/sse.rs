//! An order's status as it changes, as server-sent events.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::{Stream, stream};
use seckill_domain::OrderId;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::buyers::tokens::Caller;
use crate::http::problem::Problem;
use crate::http::request;
use crate::orders::Orders;
use crate::orders::representation::OrderBody;
use crate::orders::streams::{OpenStream, TooMany};
use crate::reads::OrderView;

/// Shorter than the idle time-outs of common proxies.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The longest delay of a stream whose wake-up was lost.
const REREAD: Duration = Duration::from_secs(5);

/// Streams the changes of an order as server-sent events.
///
/// The stream ends with the final state. A comment line is sent every 15 seconds.
///
/// # Errors
/// `unauthorized`, `not-found`, `too-many-streams`, `overloaded` also when all buyers together have too many.
#[utoipa::path(
    get,
    path = "/api/v1/orders/{order_id}/events",
    operation_id = "followOrder",
    tag = "Orders",
    responses(
        (status = 200, description = "Events.", body = StatusEvent, content_type = "text/event-stream"),
        (status = 204, description = "The client has seen the final state."),
    ),
    security(("token" = [])),
    extensions(
        ("x-parameters" = json!(["Last-Event-ID"])),
        ("x-headers" = json!({"200": ["Cache-Control"], "*": ["X-Renewed-Token"]})),
        ("x-problems" = json!(["denied", "invalid-request", "not-found", "too-many-streams"])),
    ),
)]
pub async fn stream(orders: web::Data<Orders>, http: HttpRequest) -> Result<HttpResponse, Problem> {
    let caller = orders.gate.buyer(&http).await?;
    let (user_id, order_id) = (caller.user_id, request::order_id(&http)?);
    // Listen before reading, so that no change in between is missed.
    let listening = orders.streams.open(order_id, user_id);
    let listening = listening.map_err(|too_many| match too_many {
        TooMany::OfBuyer => Problem::too_many_streams(),
        TooMany::InAll => Problem::overloaded(),
    })?;
    let found = orders.reads.order(order_id, user_id).await?;
    let view = found.ok_or_else(|| Problem::not_found("You have no such order."))?;
    let seen = last_event_id(&http).unwrap_or_default();
    if view.is_final() && !seen.clone().advance(&view) {
        // This status is the only one after which a browser's EventSource does not reconnect.
        return Ok(HttpResponse::NoContent().finish());
    }
    let status = StatusStream {
        order_id,
        caller,
        listening,
        sent: seen,
        unread: Some(view),
        heartbeat: every(HEARTBEAT),
        reread: every(REREAD),
        stop: orders.streams.ending(),
        orders,
    };
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header(("x-accel-buffering", "no"))
        .streaming(status.into_stream()))
}

/// One event, for the API's document.
struct StatusEvent;

impl PartialSchema for StatusEvent {
    fn schema() -> RefOr<Schema> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let id = text().description(Some(
            "The order's version; with an r behind it where a refund is due.",
        ));
        let data = text().content_media_type("application/json");
        ObjectBuilder::new()
            .description(Some("One event of the stream."))
            .property("event", text().enum_values(Some(["status"])))
            .property("id", id.pattern(Some("^[0-9]+r?$")))
            .property(
                "data",
                data.content_schema(Some(Ref::from_schema_name("Order"))),
            )
            .required("event")
            .required("id")
            .required("data")
            .into()
    }
}

impl ToSchema for StatusEvent {}

fn last_event_id(http: &HttpRequest) -> Option<Sent> {
    let header = http.headers().get("last-event-id")?;
    header.to_str().ok()?.trim().parse().ok()
}

fn every(period: Duration) -> Interval {
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// What the client has seen: a version, and whether it knows about a refund.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sent {
    version: i64,
    refund_due: bool,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            version: -1,
            refund_due: false,
        }
    }
}

/// As the id of an event.
impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refund = if self.refund_due { "r" } else { "" };
        write!(f, "{}{refund}", self.version)
    }
}

impl FromStr for Sent {
    type Err = ParseIntError;

    fn from_str(id: &str) -> Result<Self, ParseIntError> {
        let version = id.strip_suffix('r');
        Ok(Self {
            version: version.unwrap_or(id).parse()?,
            refund_due: version.is_some(),
        })
    }
}

impl From<&OrderView> for Sent {
    fn from(view: &OrderView) -> Self {
        let refund_due = matches!(
            view,
            OrderView::Decided {
                refund_due: true,
                ..
            }
        );
        Self {
            version: view.version(),
            refund_due,
        }
    }
}

impl Sent {
    /// Remembers what is about to be sent; false if the client has seen it before.
    fn advance(&mut self, view: &OrderView) -> bool {
        let next = Self::from(view);
        let newer = next.version > self.version;
        let refund = next.refund_due && !self.refund_due && next.version == self.version;
        if newer || refund {
            *self = next;
        }
        newer || refund
    }
}

struct StatusStream {
    orders: web::Data<Orders>,
    order_id: OrderId,
    caller: Caller,
    listening: OpenStream,
    sent: Sent,
    unread: Option<OrderView>,
    heartbeat: Interval,
    reread: Interval,
    stop: CancellationToken,
}

/// What ended a wait.
enum Woken {
    Read,
    Heartbeat,
    Stop,
}

impl StatusStream {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, actix_web::Error>> {
        stream::unfold(Some(self), |status| async move {
            let mut status = status?;
            let (chunk, goes_on) = status.next_chunk().await?;
            Some((Ok(chunk), goes_on.then_some(status)))
        })
    }

    /// The next thing to send, and whether anything can follow it. None: the end.
    async fn next_chunk(&mut self) -> Option<(Bytes, bool)> {
        loop {
            if let Some(view) = self.unread.take() {
                let is_final = view.is_final();
                if self.sent.advance(&view) {
                    return Some((event(&view), !is_final));
                }
                if is_final {
                    return None;
                }
            }
            match self.wait().await {
                Woken::Read => self.unread = self.read().await?,
                Woken::Heartbeat => return Some((Bytes::from_static(b":\n\n"), true)),
                Woken::Stop => return None,
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        tokio::select! {
            () = self.listening.changed() => Woken::Read,
            _ = self.reread.tick() => Woken::Read,
            _ = self.heartbeat.tick() => Woken::Heartbeat,
            () = self.stop.cancelled() => Woken::Stop,
        }
    }

    /// Some(None): nothing can be said now. None: the session is over, or the order, pending until now, came
    /// to nothing; the client that asks again is told so.
    async fn read(&self) -> Option<Option<OrderView>> {
        if !self.orders.gate.is_still_welcome(&self.caller) {
            return None;
        }
        let (reads, user_id) = (&self.orders.reads, self.caller.user_id);
        let read = self.listening.read(|| reads.order(self.order_id, user_id));
        match read.await {
            Ok(Some(view)) => Some(Some(view)),
            Ok(None) => None,
            Err(error) => {
                tracing::debug!(order_id = %self.order_id, %error, "a stream reads again later");
                Some(None)
            }
        }
    }
}

fn event(view: &OrderView) -> Bytes {
    // A struct of numbers and texts always has a JSON form.
    let data = serde_json::to_string(&OrderBody::from(view)).unwrap_or_default();
    let id = Sent::from(view);
    Bytes::from(format!("event: status\nid: {id}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::PendingOrder;
    use seckill_domain::{Offset, Order, OrderStatus, VoucherId};

    fn pending() -> PendingOrder {
        PendingOrder::sample(OrderId::from_parts(VoucherId::new(7).unwrap(), 1, 1))
    }

    fn decided(status: OrderStatus, refund_due: bool) -> OrderView {
        let pending = pending();
        let closed = status
            .is_final()
            .then_some((pending.pay_by, Offset::new(9)));
        let order = Order {
            order_id: pending.order_id,
            user_id: pending.user_id,
            quantity: pending.quantity,
            amount: pending.amount,
            status,
            rejected: None,
            reserved_at: pending.reserved_at,
            pay_by: pending.pay_by,
            key_hash: None,
            reserved_offset: Offset::new(8),
            closed,
            payment_id: None,
        };
        OrderView::Decided { order, refund_due }
    }

    #[test]
    fn every_version_is_sent_once_and_none_goes_back() {
        let mut sent = Sent::default();
        let (waiting, unpaid) = (
            OrderView::Pending(pending()),
            decided(OrderStatus::Unpaid, false),
        );
        assert!(sent.advance(&waiting));
        assert!(!sent.advance(&waiting));
        assert!(sent.advance(&unpaid));
        assert!(!sent.advance(&waiting));
        assert!(
            sent.advance(&decided(OrderStatus::Unpaid, true)),
            "a refund is news"
        );
        assert!(!sent.advance(&decided(OrderStatus::Unpaid, true)));
        assert!(sent.advance(&decided(OrderStatus::Expired, true)));
    }

    #[test]
    fn a_client_that_resumes_gets_what_it_has_not_seen() {
        let up_to = |id: &str| id.parse::<Sent>().unwrap();
        let mut sent = up_to("1");
        assert!(!sent.advance(&decided(OrderStatus::Unpaid, false)));
        assert!(sent.advance(&decided(OrderStatus::Paid, false)));
        assert!(!up_to("2").advance(&decided(OrderStatus::Paid, false)));
        // The payment came after the expiry.
        assert!(!up_to("2").advance(&decided(OrderStatus::Expired, false)));
        assert!(up_to("2").advance(&decided(OrderStatus::Expired, true)));
        let seen = Sent::from(&decided(OrderStatus::Expired, true)).to_string();
        assert!(!up_to(&seen).advance(&decided(OrderStatus::Expired, true)));
    }

    #[test]
    fn an_event_is_one_block_with_the_order_in_it() {
        let text = event(&decided(OrderStatus::Paid, false));
        let text = std::str::from_utf8(&text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..2], ["event: status", "id: 2"]);
        let data = lines[2].strip_prefix("data: ").unwrap();
        let order: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!(order["status"], "paid");
        assert!(text.ends_with("\n\n"));
    }
}
