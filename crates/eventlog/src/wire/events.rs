//! Events to and from their records.

use seckill_domain as domain;
use seckill_domain::{Event, EventBody, Terms};

use crate::wire::avro::{Head, Wire, record, with_head};
use crate::wire::check::Check;
use crate::wire::error::DecodeError;
use crate::wire::guard::guarded;
use crate::wire::schemas::{self, Framed, RecordKind};

type Decoded<T> = Result<T, DecodeError>;

/// An event as a message's payload, in Avro's single-object encoding.
#[must_use]
pub fn encode_event(event: &Event) -> Vec<u8> {
    let head = Head::new(event.event_id, event.voucher_id, event.occurred_at);
    match &event.body {
        EventBody::SaleScheduled(e) => schemas::encode(&SaleScheduled::of(head, &e.terms)),
        EventBody::StockAdjusted(e) => schemas::encode(&StockAdjusted::of(head, e)),
        EventBody::SaleClosed => schemas::encode(&SaleClosed::of(head)),
        EventBody::SaleReloaded(e) => schemas::encode(&SaleReloaded::of(head, e)),
        EventBody::SeckillReserved(e) => schemas::encode(&SeckillReserved::of(head, e)),
        EventBody::OrderPaid(e) => schemas::encode(&OrderPaid::of(head, e)),
        EventBody::OrderCancelled(e) => schemas::encode(&OrderCancelled::of(head, e)),
        EventBody::OrderExpired(e) => schemas::encode(&OrderExpired::of(head, e)),
        EventBody::RecordSkipped(e) => schemas::encode(&RecordSkipped::of(head, e)),
    }
}

/// Reads a payload that [`encode_event`] or an Avro producer of another language wrote.
///
/// # Errors
/// [`DecodeError`], for any bytes whatever.
pub fn decode_event(payload: &[u8]) -> Decoded<Event> {
    guarded(|| read_event(payload)).unwrap_or_else(|problem| Err(DecodeError::Panicked { problem }))
}

fn read_event(payload: &[u8]) -> Decoded<Event> {
    fail::fail_point!("eventlog.decode");
    let framed = Framed::parse(payload)?;
    match framed.kind() {
        RecordKind::SaleScheduled => event::<SaleScheduled>(framed),
        RecordKind::StockAdjusted => event::<StockAdjusted>(framed),
        RecordKind::SaleClosed => event::<SaleClosed>(framed),
        RecordKind::SaleReloaded => event::<SaleReloaded>(framed),
        RecordKind::SeckillReserved => event::<SeckillReserved>(framed),
        RecordKind::OrderPaid => event::<OrderPaid>(framed),
        RecordKind::OrderCancelled => event::<OrderCancelled>(framed),
        RecordKind::OrderExpired => event::<OrderExpired>(framed),
        RecordKind::RecordSkipped => event::<RecordSkipped>(framed),
        kind @ (RecordKind::OrderOutcome | RecordKind::SaleOutcome | RecordKind::RefundDue) => {
            Err(DecodeError::WrongTopic {
                record: kind.to_string(),
            })
        }
    }
}

fn event<T: EventRecord>(framed: Framed<'_>) -> Decoded<Event> {
    let record: T = framed.read()?;
    let check = Check::of(T::KIND);
    let (event_id, voucher_id, occurred_at) = check.head(&record)?;
    Event::new(event_id, voucher_id, occurred_at, record.body(check)?)
        .map_err(|error| check.invalid(error.field, error.problem))
}

/// A record of the event topic.
trait EventRecord: Wire {
    /// What happened, in the domain's types. The ranges of plain numbers are [`Event::new`]'s.
    fn body(self, check: Check) -> Decoded<EventBody>;
}

/// Unsigned in the domain, `int` in Avro. [`Event::check`] lets no larger number get here.
fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

record!(SaleScheduled {
    title: String,
    price_cents: i64,
    currency: String,
    stock: i64,
    max_quantity: i32,
    opens_at: i64,
    closes_at: i64,
    hold_seconds: i32,
    requires_sale_token: Option<bool>,
});

impl SaleScheduled {
    fn of(head: Head, terms: &Terms) -> Self {
        with_head!(head,
            title: terms.title.to_string(),
            price_cents: terms.price.cents(),
            currency: terms.price.currency().to_string(),
            stock: terms.stock,
            max_quantity: int(terms.max_quantity),
            opens_at: terms.opens_at.as_micros(),
            closes_at: terms.closes_at.as_micros(),
            hold_seconds: int(terms.hold_seconds),
            requires_sale_token: Some(terms.requires_sale_token),
        )
    }
}

impl EventRecord for SaleScheduled {
    fn body(self, check: Check) -> Decoded<EventBody> {
        let terms = Terms {
            title: check.title(self.title)?,
            price: check.money("price_cents", self.price_cents, &self.currency)?,
            stock: self.stock,
            max_quantity: check.unsigned("max_quantity", self.max_quantity)?,
            opens_at: check.timestamp("opens_at", self.opens_at)?,
            closes_at: check.timestamp("closes_at", self.closes_at)?,
            hold_seconds: check.unsigned("hold_seconds", self.hold_seconds)?,
            requires_sale_token: self.requires_sale_token.unwrap_or(false),
        };
        Ok(EventBody::SaleScheduled(domain::SaleScheduled { terms }))
    }
}

record!(StockAdjusted {
    delta: i64,
    reason: String,
    epoch: Option<i64>,
});

impl StockAdjusted {
    fn of(head: Head, e: &domain::StockAdjusted) -> Self {
        with_head!(head,
            delta: e.delta,
            reason: e.reason.to_string(),
            epoch: e.epoch.map(domain::Epoch::get),
        )
    }
}

impl EventRecord for StockAdjusted {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::StockAdjusted(domain::StockAdjusted {
            delta: self.delta,
            reason: check.reason(self.reason)?,
            epoch: self.epoch.map(domain::Epoch::new),
        }))
    }
}

record!(SaleClosed {});

impl SaleClosed {
    fn of(head: Head) -> Self {
        with_head!(head)
    }
}

impl EventRecord for SaleClosed {
    fn body(self, _: Check) -> Decoded<EventBody> {
        Ok(EventBody::SaleClosed)
    }
}

record!(SaleReloaded {
    previous_epoch: i64,
    epoch: i64,
    nonce: String,
    first: Option<bool>,
});

impl SaleReloaded {
    fn of(head: Head, e: &domain::SaleReloaded) -> Self {
        with_head!(head,
            previous_epoch: e.previous.get(),
            epoch: e.epoch.get(),
            nonce: e.nonce.to_string(),
            first: e.first,
        )
    }
}

impl EventRecord for SaleReloaded {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::SaleReloaded(domain::SaleReloaded {
            previous: domain::Epoch::new(self.previous_epoch),
            epoch: domain::Epoch::new(self.epoch),
            nonce: check.uuid("nonce", &self.nonce)?,
            first: self.first,
        }))
    }
}

record!(SeckillReserved {
    order_id: String,
    user_id: i64,
    quantity: i32,
    price_cents: i64,
    currency: String,
    pay_by: i64,
    epoch: i64,
    key_hash: Option<String>,
});

impl SeckillReserved {
    fn of(head: Head, e: &domain::SeckillReserved) -> Self {
        with_head!(head,
            order_id: e.order_id.to_string(),
            user_id: e.user_id.get(),
            quantity: int(e.quantity),
            price_cents: e.price.cents(),
            currency: e.price.currency().to_string(),
            pay_by: e.pay_by.as_micros(),
            epoch: e.epoch.get(),
            key_hash: e.key_hash.map(|hash| hash.to_string()),
        )
    }
}

impl EventRecord for SeckillReserved {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::SeckillReserved(domain::SeckillReserved {
            order_id: check.parsed("order_id", &self.order_id)?,
            user_id: check.user_id(self.user_id)?,
            quantity: check.unsigned("quantity", self.quantity)?,
            price: check.money("price_cents", self.price_cents, &self.currency)?,
            pay_by: check.timestamp("pay_by", self.pay_by)?,
            epoch: domain::Epoch::new(self.epoch),
            key_hash: check.key_hash(self.key_hash.as_deref())?,
        }))
    }
}

record!(OrderPaid {
    order_id: String,
    payment_id: String,
    amount_cents: i64,
    currency: String,
    paid_at: i64,
});

impl OrderPaid {
    fn of(head: Head, e: &domain::OrderPaid) -> Self {
        with_head!(head,
            order_id: e.order_id.to_string(),
            payment_id: e.payment_id.to_string(),
            amount_cents: e.amount.cents(),
            currency: e.amount.currency().to_string(),
            paid_at: e.paid_at.as_micros(),
        )
    }
}

impl EventRecord for OrderPaid {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::OrderPaid(domain::OrderPaid {
            order_id: check.parsed("order_id", &self.order_id)?,
            payment_id: check.payment_id(self.payment_id)?,
            amount: check.money("amount_cents", self.amount_cents, &self.currency)?,
            paid_at: check.timestamp("paid_at", self.paid_at)?,
        }))
    }
}

record!(OrderCancelled {
    order_id: String,
    user_id: i64,
});

impl OrderCancelled {
    fn of(head: Head, e: &domain::OrderCancelled) -> Self {
        with_head!(head,
            order_id: e.order_id.to_string(),
            user_id: e.user_id.get(),
        )
    }
}

impl EventRecord for OrderCancelled {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::OrderCancelled(domain::OrderCancelled {
            order_id: check.parsed("order_id", &self.order_id)?,
            user_id: check.user_id(self.user_id)?,
        }))
    }
}

record!(OrderExpired {
    order_id: String,
    pay_by: i64,
});

impl OrderExpired {
    fn of(head: Head, e: &domain::OrderExpired) -> Self {
        with_head!(head,
            order_id: e.order_id.to_string(),
            pay_by: e.pay_by.as_micros(),
        )
    }
}

impl EventRecord for OrderExpired {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::OrderExpired(domain::OrderExpired {
            order_id: check.parsed("order_id", &self.order_id)?,
            pay_by: check.timestamp("pay_by", self.pay_by)?,
        }))
    }
}

record!(RecordSkipped {
    partition: i32,
    offset: i64,
    reason: String,
    actor: String,
});

impl RecordSkipped {
    fn of(head: Head, e: &domain::RecordSkipped) -> Self {
        with_head!(head,
            partition: e.partition,
            offset: e.offset.get(),
            reason: e.reason.to_string(),
            actor: e.actor.to_string(),
        )
    }
}

impl EventRecord for RecordSkipped {
    fn body(self, check: Check) -> Decoded<EventBody> {
        Ok(EventBody::RecordSkipped(domain::RecordSkipped {
            partition: self.partition,
            offset: domain::Offset::new(self.offset),
            reason: check.reason(self.reason)?,
            actor: check.actor(self.actor)?,
        }))
    }
}
