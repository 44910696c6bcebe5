//! A sale as the catalogue's cache stores it: without its stock, which changes
//! with every order.

use std::str::FromStr;

use seckill_domain::{Currency, Money, Timestamp, VoucherId};
use seckill_orderbook::SaleRow;
use serde::{Deserialize, Serialize};

/// A sale without its stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Card {
    pub voucher_id: VoucherId,
    /// What is sold.
    pub title: String,
    /// Of one unit.
    pub price: Money,
    /// The most units of one order.
    pub max_quantity: u32,
    /// Whether an order needs a sale token.
    pub requires_sale_token: bool,
    /// When it opens.
    pub opens_at: Timestamp,
    /// When it closes.
    pub closes_at: Timestamp,
    /// Whether an operator has closed it.
    pub closed: bool,
    /// Units free when the card was written: for when no store can say what there is now.
    pub available_then: i64,
}

impl From<&SaleRow> for Card {
    fn from(row: &SaleRow) -> Self {
        let (sale, terms) = (&row.sale, &row.sale.terms);
        Self {
            voucher_id: sale.voucher_id,
            title: terms.title.to_string(),
            price: terms.price,
            max_quantity: terms.max_quantity,
            requires_sale_token: terms.requires_sale_token,
            opens_at: terms.opens_at,
            closes_at: terms.closes_at,
            closed: sale.closed.is_some(),
            available_then: sale.available,
        }
    }
}

/// As Redis has it.
#[derive(Serialize, Deserialize)]
struct Stored {
    voucher_id: i64,
    title: String,
    price_cents: i64,
    currency: String,
    max_quantity: u32,
    /// Cards that were written before this field existed do not have it.
    #[serde(default)]
    requires_sale_token: bool,
    opens_us: i64,
    closes_us: i64,
    closed: bool,
    available: i64,
}

impl From<Card> for Stored {
    fn from(card: Card) -> Self {
        Self {
            voucher_id: card.voucher_id.get(),
            title: card.title,
            price_cents: card.price.cents(),
            currency: card.price.currency().to_string(),
            max_quantity: card.max_quantity,
            requires_sale_token: card.requires_sale_token,
            opens_us: card.opens_at.as_micros(),
            closes_us: card.closes_at.as_micros(),
            closed: card.closed,
            available: card.available_then,
        }
    }
}

impl TryFrom<Stored> for Card {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Self, String> {
        let currency = Currency::from_str(&stored.currency).map_err(|error| error.to_string())?;
        let price = Money::new(stored.price_cents, currency);
        Ok(Self {
            voucher_id: VoucherId::new(stored.voucher_id).map_err(|error| error.to_string())?,
            title: stored.title,
            price: price.map_err(|error| error.to_string())?,
            max_quantity: stored.max_quantity,
            requires_sale_token: stored.requires_sale_token,
            opens_at: Timestamp::new(stored.opens_us).map_err(|error| error.to_string())?,
            closes_at: Timestamp::new(stored.closes_us).map_err(|error| error.to_string())?,
            closed: stored.closed,
            available_then: stored.available,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_survives_the_cache_and_what_is_none_does_not() {
        let card = Card {
            voucher_id: VoucherId::new(7).unwrap(),
            title: "Lamp \"é\"".to_owned(),
            price: Money::new(500, "EUR".parse().unwrap()).unwrap(),
            max_quantity: 2,
            requires_sale_token: true,
            opens_at: Timestamp::from_micros(1),
            closes_at: Timestamp::from_micros(2),
            closed: false,
            available_then: 9,
        };
        let text = serde_json::to_string(&card).unwrap();
        assert_eq!(serde_json::from_str::<Card>(&text).unwrap(), card);
        let bad = text.replace("EUR", "euro");
        assert!(serde_json::from_str::<Card>(&bad).is_err());
    }
}
