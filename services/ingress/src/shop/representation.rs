//! Sales as answers spell them.

use seckill_domain::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::Object;

use crate::gate::sale_tokens::IssuedSaleToken;
use crate::http::rfc3339;
use crate::http::schema::one_of;
use crate::reads::{VoucherStatus, VoucherView};

fn voucher_status() -> Object {
    one_of(
        "closed: over, or not served for now.",
        VoucherStatus::ALL.map(VoucherStatus::as_str),
    )
}

/// A sale as buyers see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Voucher, example = json!({
    "voucher_id": 7, "title": "Lamp", "price_cents": 999, "currency": "EUR", "stock_left": 12,
    "max_quantity": 2, "requires_sale_token": false, "opens_at": "2026-05-01T10:00:00Z",
    "closes_at": "2026-05-01T11:00:00Z", "status": "open", "ended": false,
}))]
pub struct VoucherBody {
    voucher_id: i64,
    title: String,
    /// Of one unit, in minor units of the currency by ISO 4217: 4900 is €49.00, ¥4900 or KWD 4.900.
    #[schema(minimum = 0)]
    price_cents: i64,
    #[schema(pattern = "^[A-Z]{3}$")]
    currency: String,
    /// Units that nobody holds, at most a second ago.
    #[schema(minimum = 0)]
    stock_left: i64,
    /// The most units of one order.
    max_quantity: u32,
    /// Whether an order needs an `X-Sale-Token`.
    requires_sale_token: bool,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    opens_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    closes_at: Timestamp,
    #[schema(schema_with = voucher_status)]
    status: &'static str,
    /// Whether it takes no orders any more. One that is closed and has not ended is back in a moment.
    ended: bool,
}

/// A token for one order of a sale by the caller.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SaleToken, example = json!({
    "sale_token": "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.…",
    "issued_at": "2026-05-01T10:00:00Z", "expires_at": "2026-05-01T10:30:00Z",
}))]
pub struct SaleTokenBody {
    /// What an order of the sale shows as `X-Sale-Token`.
    sale_token: String,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    issued_at: Timestamp,
    #[serde(serialize_with = "rfc3339::serialize")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

impl From<IssuedSaleToken> for SaleTokenBody {
    fn from(issued: IssuedSaleToken) -> Self {
        Self {
            sale_token: issued.token,
            issued_at: issued.issued_at,
            expires_at: issued.expires_at,
        }
    }
}

/// One page of sales, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct VouchersPage {
    pub(super) vouchers: Vec<VoucherBody>,
    /// The `before` of the page after this one; null at the end.
    #[schema(required = true)]
    pub(super) next: Option<i64>,
}

impl VoucherBody {
    /// As it is at `now`.
    #[must_use]
    pub fn new(view: &VoucherView, now: Timestamp) -> Self {
        let card = &view.card;
        Self {
            voucher_id: card.voucher_id.get(),
            title: card.title.clone(),
            price_cents: card.price.cents(),
            currency: card.price.currency().to_string(),
            stock_left: view.stock_left(),
            max_quantity: card.max_quantity,
            requires_sale_token: card.requires_sale_token,
            opens_at: card.opens_at,
            closes_at: card.closes_at,
            status: view.status(now).as_str(),
            ended: view.has_ended(now),
        }
    }
}
