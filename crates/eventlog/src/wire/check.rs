//! From plain values to the domain's types. Programs of other teams may write into the log too. Everything that
//! the fold or a store could not handle is refused here.

use std::fmt::Display;
use std::str::FromStr;

use seckill_domain::{
    Actor, Currency, EventId, KeyHash, Money, Offset, OrderId, PaymentId, Reason, Timestamp, Title,
    UserId, VoucherId,
};
use uuid::Uuid;

use crate::wire::avro::Wire;
use crate::wire::error::DecodeError;
use crate::wire::schemas::RecordKind;

/// Checks the fields of one record, and names the field that is wrong.
#[derive(Clone, Copy)]
pub(crate) struct Check {
    kind: RecordKind,
}

type Checked<T> = Result<T, DecodeError>;

impl Check {
    pub(crate) const fn of(kind: RecordKind) -> Self {
        Self { kind }
    }

    pub(crate) fn invalid(self, field: &'static str, problem: impl Display) -> DecodeError {
        DecodeError::Invalid {
            record: self.kind.to_string(),
            field,
            problem: problem.to_string(),
        }
    }

    pub(crate) fn parsed<T: FromStr<Err: Display>>(
        self,
        field: &'static str,
        text: &str,
    ) -> Checked<T> {
        text.parse().map_err(|e| self.invalid(field, e))
    }

    /// The three fields that every record begins with.
    pub(crate) fn head(self, record: &impl Wire) -> Checked<(EventId, VoucherId, Timestamp)> {
        let (event_id, voucher_id, occurred_at) = record.head();
        Ok((
            self.parsed("event_id", event_id)?,
            self.voucher_id(voucher_id)?,
            self.timestamp("occurred_at", occurred_at)?,
        ))
    }

    pub(crate) fn uuid(self, field: &'static str, text: &str) -> Checked<Uuid> {
        self.parsed(field, text)
    }

    fn voucher_id(self, number: i64) -> Checked<VoucherId> {
        VoucherId::new(number).map_err(|e| self.invalid("voucher_id", e))
    }

    pub(crate) fn order_id(self, text: &str, voucher: VoucherId) -> Checked<OrderId> {
        let id: OrderId = self.parsed("order_id", text)?;
        if id.voucher_id() == voucher {
            Ok(id)
        } else {
            let problem = format!("the order is for voucher {}", id.voucher_id());
            Err(self.invalid("order_id", problem))
        }
    }

    pub(crate) fn user_id(self, number: i64) -> Checked<UserId> {
        UserId::new(number).map_err(|e| self.invalid("user_id", e))
    }

    pub(crate) fn payment_id(self, text: String) -> Checked<PaymentId> {
        PaymentId::new(text).map_err(|e| self.invalid("payment_id", e))
    }

    pub(crate) fn key_hash(self, text: Option<&str>) -> Checked<Option<KeyHash>> {
        text.map(|t| self.parsed("key_hash", t)).transpose()
    }

    pub(crate) fn currency(self, text: &str) -> Checked<Currency> {
        self.parsed("currency", text)
    }

    pub(crate) fn money(self, field: &'static str, cents: i64, currency: &str) -> Checked<Money> {
        let currency = self.currency(currency)?;
        Money::new(cents, currency).map_err(|e| self.invalid(field, e))
    }

    pub(crate) fn unsigned(self, field: &'static str, number: i32) -> Checked<u32> {
        u32::try_from(number).map_err(|_| self.invalid(field, "has to be 0 or more"))
    }

    pub(crate) fn at_least_one(self, field: &'static str, number: i32) -> Checked<u32> {
        match u32::try_from(number) {
            Ok(count) if count >= 1 => Ok(count),
            _ => Err(self.invalid(field, "has to be at least 1")),
        }
    }

    pub(crate) fn not_negative(self, field: &'static str, number: i64) -> Checked<i64> {
        if number >= 0 {
            Ok(number)
        } else {
            Err(self.invalid(field, "has to be 0 or more"))
        }
    }

    pub(crate) fn offset(self, field: &'static str, number: i64) -> Checked<Offset> {
        self.not_negative(field, number).map(Offset::new)
    }

    pub(crate) fn partition(self, field: &'static str, number: i32) -> Checked<i32> {
        self.not_negative(field, i64::from(number)).map(|_| number)
    }

    pub(crate) fn timestamp(self, field: &'static str, micros: i64) -> Checked<Timestamp> {
        Timestamp::new(micros).map_err(|e| self.invalid(field, e))
    }

    pub(crate) fn title(self, text: String) -> Checked<Title> {
        Title::new(text).map_err(|e| self.invalid("title", e))
    }

    pub(crate) fn reason(self, text: String) -> Checked<Reason> {
        Reason::new(text).map_err(|e| self.invalid("reason", e))
    }

    pub(crate) fn actor(self, text: String) -> Checked<Actor> {
        Actor::new(text).map_err(|e| self.invalid("actor", e))
    }
}
