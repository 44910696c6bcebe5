//! Outcomes: what was decided, for consumers that do not know the rule.

use std::fmt;

use seckill_domain as domain;
use seckill_domain::{
    Effect, EventId, LogRef, Offset, OrderId, OrderStatus, Outcome, RefundReason, RejectReason,
    SalePhase, Timestamp, VoucherId,
};
use uuid::Uuid;

use crate::wire::avro::{Head, Wire, record, with_head};
use crate::wire::check::Check;
use crate::wire::error::DecodeError;
use crate::wire::guard::guarded;
use crate::wire::schemas::{self, Framed, RecordKind};

type Decoded<T> = Result<T, DecodeError>;

/// Where in the event topic the record stands that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceRef {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: Offset,
}

/// One record of the outcome topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// Made of the source: a repeated outcome has the same id.
    pub event_id: EventId,
    /// The sale.
    pub voucher_id: VoucherId,
    /// When it was published. For people.
    pub occurred_at: Timestamp,
    /// The record that was decided.
    pub source: SourceRef,
    /// What was decided.
    pub outcome: Outcome,
}

impl OutcomeRecord {
    /// The outcome of an effect that was decided in `partition` of the event topic, in that of its logs.
    /// Another log has the offsets once more: its outcomes have other ids, and sales' versions go on rising.
    #[must_use]
    pub fn new(effect: &Effect, partition: i32, log: LogRef, occurred_at: Timestamp) -> Self {
        let source = SourceRef {
            partition,
            offset: effect.offset,
        };
        let mut outcome = effect.outcome.clone();
        if let Outcome::Sale(sale) = &mut outcome {
            sale.version += log.lost_offsets;
        }
        Self {
            event_id: id_of(source, log),
            voucher_id: effect.voucher_id,
            occurred_at,
            source,
            outcome,
        }
    }

    /// The Avro record's name, which is also the last part of `ce_type`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.outcome {
            Outcome::Order(_) => "OrderOutcome",
            Outcome::Sale(_) => "SaleOutcome",
            Outcome::Refund(_) => "RefundDue",
        }
    }

    /// The name of the event record that was decided.
    #[must_use]
    pub const fn cause(&self) -> &'static str {
        match &self.outcome {
            Outcome::Order(order) => match order.status {
                OrderStatus::Unpaid | OrderStatus::Rejected => "SeckillReserved",
                OrderStatus::Paid => "OrderPaid",
                OrderStatus::Expired => "OrderExpired",
                OrderStatus::Cancelled => "OrderCancelled",
            },
            Outcome::Sale(sale) => match sale.phase {
                SalePhase::Scheduled => "SaleScheduled",
                SalePhase::Adjusted | SalePhase::AdjustmentRefused => "StockAdjusted",
                SalePhase::Closed => "SaleClosed",
            },
            Outcome::Refund(_) => "OrderPaid",
        }
    }

    /// The record's key.
    #[must_use]
    pub fn key(&self) -> OutcomeKey {
        match &self.outcome {
            Outcome::Order(order) => OutcomeKey::Order(order.order_id),
            Outcome::Refund(refund) => OutcomeKey::Order(refund.order_id),
            Outcome::Sale(_) => OutcomeKey::Sale(self.voucher_id),
        }
    }
}

/// What an outcome is about, which its record's key says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutcomeKey {
    /// An order.
    Order(OrderId),
    /// The sale itself.
    Sale(VoucherId),
}

impl OutcomeKey {
    /// The key of a record; none if it is no outcome's.
    #[must_use]
    pub fn read(key: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(key).ok()?;
        let order = text.parse().map(Self::Order);
        order.or_else(|_| text.parse().map(Self::Sale)).ok()
    }
}

impl fmt::Display for OutcomeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Order(order) => order.fmt(f),
            Self::Sale(voucher) => voucher.fmt(f),
        }
    }
}

/// A UUID of version 8: partition and offset, and between them a mark of what it is made for and, in the 12
/// bits beside the version, the number of the log.
fn id_of(source: SourceRef, log: LogRef) -> EventId {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&source.partition.to_be_bytes());
    bytes[4..6].copy_from_slice(b"oc");
    bytes[6..8].copy_from_slice(&log.number.to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&source.offset.get().to_be_bytes());
    EventId::from_uuid(Uuid::new_v8(bytes))
}

/// An outcome as a message's payload, in Avro's single-object encoding.
#[must_use]
pub fn encode_outcome(record: &OutcomeRecord) -> Vec<u8> {
    match &record.outcome {
        Outcome::Order(outcome) => schemas::encode(&OrderOutcome::of(record, outcome)),
        Outcome::Sale(outcome) => schemas::encode(&SaleOutcome::of(record, outcome)),
        Outcome::Refund(outcome) => schemas::encode(&RefundDue::of(record, outcome)),
    }
}

/// Reads a payload that [`encode_outcome`] wrote.
///
/// # Errors
/// [`DecodeError`], for any bytes whatever.
pub fn decode_outcome(payload: &[u8]) -> Decoded<OutcomeRecord> {
    guarded(|| read_outcome(payload))
        .unwrap_or_else(|problem| Err(DecodeError::Panicked { problem }))
}

fn read_outcome(payload: &[u8]) -> Decoded<OutcomeRecord> {
    let framed = Framed::parse(payload)?;
    match framed.kind() {
        RecordKind::OrderOutcome => outcome::<OrderOutcome>(framed),
        RecordKind::SaleOutcome => outcome::<SaleOutcome>(framed),
        RecordKind::RefundDue => outcome::<RefundDue>(framed),
        kind => Err(DecodeError::WrongTopic {
            record: kind.to_string(),
        }),
    }
}

fn outcome<T: OutcomeWire>(framed: Framed<'_>) -> Decoded<OutcomeRecord> {
    let record: T = framed.read()?;
    let check = Check::of(T::KIND);
    let (event_id, voucher_id, occurred_at) = check.head(&record)?;
    let (partition, offset) = record.source();
    let source = SourceRef {
        partition: check.partition("source_partition", partition)?,
        offset: check.offset("source_offset", offset)?,
    };
    Ok(OutcomeRecord {
        event_id,
        voucher_id,
        occurred_at,
        source,
        outcome: record.outcome(check, voucher_id)?,
    })
}

/// A record of the outcome topic.
trait OutcomeWire: Wire {
    /// Partition and offset.
    fn source(&self) -> (i32, i64);

    /// What was decided, checked.
    fn outcome(self, check: Check, voucher: VoucherId) -> Decoded<Outcome>;
}

fn head_of(record: &OutcomeRecord) -> Head {
    Head::new(record.event_id, record.voucher_id, record.occurred_at)
}

record!(OrderOutcome {
    order_id: String,
    user_id: i64,
    quantity: i32,
    amount_cents: i64,
    currency: String,
    status: String,
    version: i64,
    rejected_reason: Option<String>,
    pay_by: i64,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});

impl OrderOutcome {
    fn of(record: &OutcomeRecord, order: &domain::OrderOutcome) -> Self {
        let head = head_of(record);
        with_head!(
            head,
            order_id: order.order_id.to_string(),
            user_id: order.user_id.get(),
            quantity: i32::try_from(order.quantity).unwrap_or(i32::MAX),
            amount_cents: order.amount.cents(),
            currency: order.amount.currency().to_string(),
            status: order.status.as_str().to_owned(),
            version: order.version,
            rejected_reason: order.rejected.map(|reason| reason.as_str().to_owned()),
            pay_by: order.pay_by.as_micros(),
            cause: record.cause().to_owned(),
            source_partition: record.source.partition,
            source_offset: record.source.offset.get(),
        )
    }
}

impl OutcomeWire for OrderOutcome {
    fn source(&self) -> (i32, i64) {
        (self.source_partition, self.source_offset)
    }

    fn outcome(self, check: Check, voucher: VoucherId) -> Decoded<Outcome> {
        let status = OrderStatus::parse(&self.status)
            .ok_or_else(|| check.invalid("status", "is none that this build knows"))?;
        let rejected = self.rejected_reason.map(|text| {
            RejectReason::parse(&text)
                .ok_or_else(|| check.invalid("rejected_reason", "is none that this build knows"))
        });
        Ok(Outcome::Order(domain::OrderOutcome {
            order_id: check.order_id(&self.order_id, voucher)?,
            user_id: check.user_id(self.user_id)?,
            quantity: check.at_least_one("quantity", self.quantity)?,
            amount: check.money("amount_cents", self.amount_cents, &self.currency)?,
            status,
            version: check.not_negative("version", self.version)?,
            rejected: rejected.transpose()?,
            pay_by: check.timestamp("pay_by", self.pay_by)?,
        }))
    }
}

record!(SaleOutcome {
    phase: String,
    version: i64,
    delta: i64,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});

impl SaleOutcome {
    fn of(record: &OutcomeRecord, sale: &domain::SaleOutcome) -> Self {
        let head = head_of(record);
        with_head!(
            head,
            phase: sale.phase.as_str().to_owned(),
            version: sale.version,
            delta: sale.delta,
            cause: record.cause().to_owned(),
            source_partition: record.source.partition,
            source_offset: record.source.offset.get(),
        )
    }
}

impl OutcomeWire for SaleOutcome {
    fn source(&self) -> (i32, i64) {
        (self.source_partition, self.source_offset)
    }

    fn outcome(self, check: Check, _: VoucherId) -> Decoded<Outcome> {
        let phase = SalePhase::parse(&self.phase)
            .ok_or_else(|| check.invalid("phase", "is none that this build knows"))?;
        Ok(Outcome::Sale(domain::SaleOutcome {
            phase,
            version: check.not_negative("version", self.version)?,
            delta: self.delta,
        }))
    }
}

record!(RefundDue {
    payment_id: String,
    order_id: String,
    amount_cents: i64,
    currency: String,
    reason: String,
    cause: String,
    source_partition: i32,
    source_offset: i64,
});

impl RefundDue {
    fn of(record: &OutcomeRecord, refund: &domain::RefundOutcome) -> Self {
        let head = head_of(record);
        with_head!(
            head,
            payment_id: refund.payment_id.to_string(),
            order_id: refund.order_id.to_string(),
            amount_cents: refund.amount_cents,
            currency: refund.currency.to_string(),
            reason: refund.reason.as_str().to_owned(),
            cause: record.cause().to_owned(),
            source_partition: record.source.partition,
            source_offset: record.source.offset.get(),
        )
    }
}

impl OutcomeWire for RefundDue {
    fn source(&self) -> (i32, i64) {
        (self.source_partition, self.source_offset)
    }

    fn outcome(self, check: Check, voucher: VoucherId) -> Decoded<Outcome> {
        let reason = RefundReason::parse(&self.reason)
            .ok_or_else(|| check.invalid("reason", "is none that this build knows"))?;
        Ok(Outcome::Refund(domain::RefundOutcome {
            payment_id: check.payment_id(self.payment_id)?,
            order_id: check.order_id(&self.order_id, voucher)?,
            amount_cents: check.not_negative("amount_cents", self.amount_cents)?,
            currency: check.currency(&self.currency)?,
            reason,
        }))
    }
}
