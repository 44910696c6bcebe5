//! Taking units: reservations in batches, shrinks, and clearing what was published.

use std::time::Duration;

use redis::Cmd;
use seckill_domain::{
    Currency, Epoch, EventId, KeyHash, Money, OrderId, Refusal, Timestamp, TraceParent, UserId,
    VoucherId,
};
use uuid::Uuid;

use crate::calls::keys::SaleKeys;
use crate::calls::pending::{Ack, PendingEvent, PendingReservation, PendingShrink};
use crate::calls::sold_out::SoldOutLease;
use crate::calls::stock::Stock;
use crate::redis::connection::StockConnection;
use crate::redis::error::StockError;
use crate::redis::reply::{NONE, Reply, key_hash_text, unexpected};
use crate::redis::script::{MAX_ITEMS, MAX_REQUESTS, Script};

/// One buyer's request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReserveRequest {
    /// The id of the order if the request is granted. A retry has the same id, so that it is granted once.
    pub order_id: OrderId,
    /// The id of the event that says so.
    pub event_id: EventId,
    /// The buyer.
    pub user_id: UserId,
    /// Units.
    pub quantity: u32,
    /// The hash of the request's idempotency key.
    pub key_hash: Option<KeyHash>,
    /// The request's trace.
    pub traceparent: Option<TraceParent>,
    /// The nonce of a valid sale token of this buyer and this sale. Only sales that require a token check
    /// it; it is valid for one order.
    pub sale_token: Option<Uuid>,
}

/// Whether requests are sent for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// For the first time.
    First,
    /// The same requests were sent before, and their result is not known.
    Again,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveReply {
    /// Redis has no such sale, or it was loaded into another server, or it is being loaded.
    NotServed,
    /// The sale has decided.
    Decided {
        /// One outcome a request, in order.
        outcomes: Vec<ReserveOutcome>,
        /// When, by Redis' clock.
        at: Timestamp,
        /// The promise deadline that the load of the sale waited for. Later than this after the call was sent,
        /// a grant may not be promised any more. None if an earlier version loaded the sale.
        promise_deadline: Option<Duration>,
        /// A lease on `sold-out`, if no unit is left and many ask: the call was of more than one request, or another
        /// lease lasts.
        sold_out: Option<SoldOutLease>,
    },
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// Units were taken, by this call or by an earlier call with the same order id whose event may not be
    /// published yet. The event has to be published.
    Granted(PendingReservation),
    /// The user's last order, or an earlier one, has the same key or the same order id.
    Repeated {
        /// That order.
        order_id: OrderId,
        /// Whether the log's decision for it is known here: it stands.
        settled: bool,
        /// Whether it was released since.
        released: bool,
        /// Until when it may be paid.
        pay_by: Timestamp,
    },
    /// The call is a repetition, and the user has had another order since, so that the result of the first
    /// call is not known. Nothing is granted; a request with a new order id may be granted.
    Superseded,
    /// The sale refuses it.
    Refused(Refusal),
}

/// The answer to a shrink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShrinkReply {
    /// As for [`ReserveReply::NotServed`].
    NotServed,
    /// Fewer units are free.
    Refused {
        /// Units free.
        free: i64,
    },
    /// The units were taken, by this call or an earlier one with the same event id.
    Taken(PendingShrink),
}

/// The part of a reply that all its requests share.
struct Header {
    epoch: Epoch,
    price: Money,
    now: Timestamp,
    pay_by: Timestamp,
    opens_at: Timestamp,
    max_quantity: u32,
    promise_deadline: Option<Duration>,
    sold_out: Option<SoldOutLease>,
}

impl Stock {
    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events, then decides up to
    /// [`crate::MAX_REQUESTS`] requests in order, all in one step.
    /// Without an answer it may be repeated with the same ids as [`Attempt::Again`]: that gives what the first
    /// attempt was granted, or grants it now, unless the user has had another order since.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items.
    pub async fn reserve(
        &self,
        voucher: VoucherId,
        requests: &[ReserveRequest],
        acks: &[Ack],
        attempt: Attempt,
    ) -> Result<ReserveReply, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.reserve(voucher, requests, acks, attempt).await
    }

    /// Takes `units`, at least 1, off a sale, open or closed, once for an event id.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for fewer than 1.
    pub async fn shrink(
        &self,
        voucher: VoucherId,
        event_id: EventId,
        units: i64,
    ) -> Result<ShrinkReply, StockError> {
        if units < 1 {
            return Err(StockError::Protocol("a shrink takes units".to_owned()));
        }
        let connection = self.connection_for(voucher).await?;
        let keys = SaleKeys::of(connection.prefix(), voucher);
        let mut cmd =
            connection.invocation(Script::Shrink, &[&keys.sale, &keys.holds, &keys.outbox]);
        cmd.arg(event_id.to_string()).arg(units);
        let mut reply = connection.run(&cmd).await?;
        match reply.answer() {
            _ if reply.is_not_served() => Ok(ShrinkReply::NotServed),
            "refused" => Ok(ShrinkReply::Refused {
                free: reply.parse()?,
            }),
            "taken" => Ok(ShrinkReply::Taken(PendingShrink {
                event_id,
                epoch: reply.epoch()?,
                units: reply.parse()?,
                at: reply.timestamp()?,
            })),
            _ => Err(reply.unexpected()),
        }
    }

    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events. False: not served, nothing was cleared.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items.
    pub async fn clear(&self, voucher: VoucherId, acks: &[Ack]) -> Result<bool, StockError> {
        let connection = self.connection_for(voucher).await?;
        let keys = SaleKeys::of(connection.prefix(), voucher);
        let mut cmd =
            connection.invocation(Script::Clear, &[&keys.sale, &keys.holds, &keys.outbox]);
        add_acks(&mut cmd, acks)?;
        Ok(!connection.run(&cmd).await?.is_not_served())
    }
}

impl StockConnection {
    async fn reserve(
        &self,
        voucher: VoucherId,
        requests: &[ReserveRequest],
        acks: &[Ack],
        attempt: Attempt,
    ) -> Result<ReserveReply, StockError> {
        if requests.len() > MAX_REQUESTS {
            let message = format!("more than {MAX_REQUESTS} requests in one call");
            return Err(StockError::Protocol(message));
        }
        let keys = SaleKeys::of(self.prefix(), voucher);
        let mut named = vec![&*keys.sale, &keys.holds, &keys.outbox];
        // Only if it is used: while a slot of a Cluster moves, a call with a key that does not exist yet is refused.
        if requests.iter().any(|request| request.sale_token.is_some()) {
            named.push(&keys.tokens);
        }
        let mut cmd = self.invocation(Script::Reserve, &named);
        cmd.arg(match attempt {
            Attempt::First => "first",
            Attempt::Again => "again",
        });
        cmd.arg(acks.len());
        add_acks(&mut cmd, acks)?;
        for request in requests {
            let traceparent = request.traceparent.as_ref();
            cmd.arg(request.order_id.to_string())
                .arg(request.event_id.to_string())
                .arg(request.user_id.get())
                .arg(request.quantity)
                .arg(key_hash_text(request.key_hash))
                .arg(traceparent.map_or(NONE, TraceParent::as_str));
            match request.sale_token {
                Some(nonce) => cmd.arg(nonce.to_string()),
                None => cmd.arg(NONE),
            };
        }
        let mut reply = self.run(&cmd).await?;
        if reply.is_not_served() {
            return Ok(ReserveReply::NotServed);
        }
        let header = Header::read(&mut reply)?;
        let outcomes = requests
            .iter()
            .map(|request| header.outcome(request, &mut reply));
        Ok(ReserveReply::Decided {
            outcomes: outcomes.collect::<Result<_, _>>()?,
            at: header.now,
            promise_deadline: header.promise_deadline,
            sold_out: header.sold_out,
        })
    }
}

fn add_acks(cmd: &mut Cmd, acks: &[Ack]) -> Result<(), StockError> {
    if acks.len() > MAX_ITEMS {
        return Err(StockError::too_many("acks"));
    }
    for ack in acks {
        cmd.arg(ack.id.to_string()).arg(ack.epoch.get());
    }
    Ok(())
}

/// Reads a price as the sale's two fields.
pub(crate) fn read_price(reply: &mut Reply) -> Result<Money, StockError> {
    let cents = reply.parse()?;
    let currency: Currency = reply.parse()?;
    Money::new(cents, currency).map_err(|error| StockError::Protocol(error.to_string()))
}

impl Header {
    fn read(reply: &mut Reply) -> Result<Self, StockError> {
        let mut header = Self {
            epoch: reply.epoch()?,
            price: read_price(reply)?,
            now: reply.timestamp()?,
            pay_by: reply.timestamp()?,
            opens_at: reply.timestamp()?,
            max_quantity: reply.parse()?,
            promise_deadline: match reply.parse()? {
                0 => None,
                millis => Some(Duration::from_millis(millis)),
            },
            sold_out: None,
        };
        header.sold_out = SoldOutLease::read(&reply.text()?, header.max_quantity)?;
        Ok(header)
    }

    fn outcome(
        &self,
        request: &ReserveRequest,
        reply: &mut Reply,
    ) -> Result<ReserveOutcome, StockError> {
        Ok(match reply.text()?.as_str() {
            "granted" => ReserveOutcome::Granted(self.granted(request)),
            "again" => self.granted_before(request, &reply.text()?)?,
            "repeated" => {
                let order_id = reply.parse()?;
                let state = reply.text()?;
                ReserveOutcome::Repeated {
                    order_id,
                    settled: state == "s",
                    released: state == "r",
                    pay_by: reply.timestamp()?,
                }
            }
            "superseded" => ReserveOutcome::Superseded,
            refusal => ReserveOutcome::Refused(self.refusal(refusal, reply)?),
        })
    }

    fn refusal(&self, name: &str, reply: &mut Reply) -> Result<Refusal, StockError> {
        Ok(match name {
            "already-ordered" => Refusal::AlreadyOrdered {
                order_id: reply.parse()?,
            },
            "not-started" => Refusal::NotStarted {
                opens_at: self.opens_at,
            },
            "quantity-limit" => Refusal::QuantityLimit {
                max_quantity: self.max_quantity,
            },
            plain => Refusal::plain(plain).ok_or_else(|| unexpected(plain))?,
        })
    }

    fn granted(&self, request: &ReserveRequest) -> PendingReservation {
        PendingReservation {
            event_id: request.event_id,
            order_id: request.order_id,
            user_id: request.user_id,
            quantity: request.quantity,
            price: self.price,
            reserved_at: self.now,
            pay_by: self.pay_by,
            epoch: self.epoch,
            key_hash: request.key_hash,
            traceparent: request.traceparent,
        }
    }

    fn granted_before(
        &self,
        request: &ReserveRequest,
        entry: &str,
    ) -> Result<ReserveOutcome, StockError> {
        let id = request.order_id.to_string();
        match PendingEvent::from_entry(&id, entry, self.epoch, self.price)? {
            PendingEvent::Reservation(reservation) => Ok(ReserveOutcome::Granted(reservation)),
            PendingEvent::Shrink(_) => Err(StockError::Protocol(format!("outbox entry {entry:?}"))),
        }
    }
}
