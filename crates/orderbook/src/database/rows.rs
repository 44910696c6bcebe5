//! Rows into the domain's types and back. A row that the domain has no value for is an error, never
//! a default.

use seckill_domain::{
    AdjustmentRow, Currency, Epoch, EventId, KeyHash, Money, Offset, Order, OrderId, OrderStatus,
    PaymentId, Refund, RefundReason, RejectReason, Sale, Terms, Title, UserId, VoucherId,
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::database::error::OrderbookError;
use crate::database::sql_time::SqlTime;

pub(crate) const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// The columns of [`RawOrder`].
pub(crate) const ORDER_COLUMNS: &str = "order_id, user_id, quantity, amount_cents, currency, \
    status, reject_reason, reserved_at, pay_by, key_hash, reserved_offset, closed_at, \
    closed_offset, payment_id";

/// The columns of [`RawSale`].
pub(crate) const SALE_COLUMNS: &str = "voucher_id, title, price_cents, currency, initial_stock, \
    adjusted, stock_left, unpaid_units, paid_units, max_quantity, opens_at, closes_at, \
    hold_seconds, requires_sale_token, epoch, scheduled_offset, closed_at, closed_offset";

#[derive(FromRow)]
pub(crate) struct RawOrder {
    order_id: Uuid,
    user_id: i64,
    quantity: i64,
    amount_cents: i64,
    currency: String,
    status: String,
    reject_reason: Option<String>,
    reserved_at: SqlTime,
    pay_by: SqlTime,
    key_hash: Option<Vec<u8>>,
    reserved_offset: i64,
    closed_at: Option<SqlTime>,
    closed_offset: Option<i64>,
    payment_id: Option<String>,
}

impl TryFrom<RawOrder> for Order {
    type Error = OrderbookError;

    fn try_from(row: RawOrder) -> Result<Self, OrderbookError> {
        let of = |column| move || corrupt("orders", column);
        let rejected = row.reject_reason.as_deref().map(|text| {
            RejectReason::parse(text).ok_or_else(|| corrupt("orders", "reject_reason"))
        });
        let key_hash = row.key_hash.map(|bytes| {
            <[u8; 16]>::try_from(bytes)
                .map(KeyHash::from_bytes)
                .map_err(|_| corrupt("orders", "key_hash"))
        });
        let payment_id = row
            .payment_id
            .map(|text| PaymentId::new(text).map_err(|_| corrupt("orders", "payment_id")));
        Ok(Self {
            order_id: order_id(row.order_id, "orders")?,
            user_id: UserId::new(row.user_id).map_err(|_| corrupt("orders", "user_id"))?,
            quantity: unsigned(row.quantity).ok_or_else(of("quantity"))?,
            amount: money(row.amount_cents, &row.currency, "orders")?,
            status: OrderStatus::parse(&row.status).ok_or_else(of("status"))?,
            rejected: rejected.transpose()?,
            reserved_at: row.reserved_at.0,
            pay_by: row.pay_by.0,
            key_hash: key_hash.transpose()?,
            reserved_offset: Offset::new(row.reserved_offset),
            closed: closed(row.closed_at, row.closed_offset),
            payment_id: payment_id.transpose()?,
        })
    }
}

#[derive(FromRow)]
pub(crate) struct RawSale {
    voucher_id: i64,
    title: String,
    price_cents: i64,
    currency: String,
    initial_stock: i64,
    adjusted: i64,
    stock_left: i64,
    unpaid_units: i64,
    paid_units: i64,
    max_quantity: i64,
    opens_at: SqlTime,
    closes_at: SqlTime,
    hold_seconds: i64,
    requires_sale_token: bool,
    epoch: i64,
    scheduled_offset: i64,
    closed_at: Option<SqlTime>,
    closed_offset: Option<i64>,
}

impl TryFrom<RawSale> for Sale {
    type Error = OrderbookError;

    fn try_from(row: RawSale) -> Result<Self, OrderbookError> {
        let of = |column| move || corrupt("vouchers", column);
        Ok(Self {
            voucher_id: voucher_id(row.voucher_id, "vouchers")?,
            terms: Terms {
                title: Title::new(row.title).map_err(|_| corrupt("vouchers", "title"))?,
                price: money(row.price_cents, &row.currency, "vouchers")?,
                stock: row.initial_stock,
                max_quantity: unsigned(row.max_quantity).ok_or_else(of("max_quantity"))?,
                opens_at: row.opens_at.0,
                closes_at: row.closes_at.0,
                hold_seconds: unsigned(row.hold_seconds).ok_or_else(of("hold_seconds"))?,
                requires_sale_token: row.requires_sale_token,
            },
            adjusted: row.adjusted,
            available: row.stock_left,
            unpaid: row.unpaid_units,
            paid: row.paid_units,
            epoch: Epoch::new(row.epoch),
            scheduled_offset: Offset::new(row.scheduled_offset),
            closed: closed(row.closed_at, row.closed_offset),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct RawRefund {
    payment_id: String,
    order_id: Uuid,
    amount_cents: i64,
    currency: String,
    reason: String,
    offset: i64,
}

impl TryFrom<RawRefund> for Refund {
    type Error = OrderbookError;

    fn try_from(row: RawRefund) -> Result<Self, OrderbookError> {
        Ok(Self {
            payment_id: PaymentId::new(row.payment_id)
                .map_err(|_| corrupt("refunds", "payment_id"))?,
            order_id: order_id(row.order_id, "refunds")?,
            amount: money(row.amount_cents, &row.currency, "refunds")?,
            reason: RefundReason::parse(&row.reason).ok_or_else(|| corrupt("refunds", "reason"))?,
            offset: Offset::new(row.offset),
        })
    }
}

#[derive(FromRow)]
pub(crate) struct RawAdjustment {
    event_id: Uuid,
    voucher_id: i64,
    delta: i64,
    accepted: bool,
    offset: i64,
}

impl TryFrom<RawAdjustment> for AdjustmentRow {
    type Error = OrderbookError;

    fn try_from(row: RawAdjustment) -> Result<Self, OrderbookError> {
        Ok(Self {
            event_id: EventId::from_uuid(row.event_id),
            voucher_id: voucher_id(row.voucher_id, "stock_adjustments")?,
            delta: row.delta,
            accepted: row.accepted,
            offset: Offset::new(row.offset),
        })
    }
}

/// All rows, or the first one's error.
pub(crate) fn all<R, T>(rows: Vec<R>) -> Result<Vec<T>, OrderbookError>
where
    T: TryFrom<R, Error = OrderbookError>,
{
    rows.into_iter().map(T::try_from).collect()
}

pub(crate) fn voucher_id(number: i64, table: &'static str) -> Result<VoucherId, OrderbookError> {
    VoucherId::new(number).map_err(|_| corrupt(table, "voucher_id"))
}

pub(crate) fn order_id(uuid: Uuid, table: &'static str) -> Result<OrderId, OrderbookError> {
    OrderId::from_uuid(uuid).map_err(|_| corrupt(table, "order_id"))
}

/// The first and the last order id that a voucher can have.
pub(crate) fn order_ids_of(voucher: VoucherId) -> (Uuid, Uuid) {
    let id = |bits| OrderId::from_parts(voucher, bits, bits).as_uuid();
    (id(0), id(u64::MAX))
}

fn unsigned(number: i64) -> Option<u32> {
    u32::try_from(number).ok()
}

fn money(cents: i64, currency: &str, table: &'static str) -> Result<Money, OrderbookError> {
    let currency: Currency = currency.parse().map_err(|_| corrupt(table, "currency"))?;
    Money::new(cents, currency).map_err(|_| corrupt(table, "amount_cents"))
}

fn closed(at: Option<SqlTime>, offset: Option<i64>) -> Option<(seckill_domain::Timestamp, Offset)> {
    at.zip(offset)
        .map(|(at, offset)| (at.0, Offset::new(offset)))
}

const fn corrupt(table: &'static str, column: &'static str) -> OrderbookError {
    OrderbookError::Row { table, column }
}
