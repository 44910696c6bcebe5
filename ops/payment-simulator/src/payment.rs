//! What a buyer is sent to pay.

use seckill_domain::Money;
use serde::Deserialize;

/// What the shop asks to be paid.
#[derive(Deserialize)]
pub(crate) struct Payment {
    pub(crate) order_id: String,
    pub(crate) amount_cents: i64,
    pub(crate) currency: String,
    pub(crate) return_to: String,
}

impl Payment {
    /// As people read it, or as it came where it is no money.
    pub(crate) fn amount(&self) -> String {
        let currency = self.currency.parse().ok();
        let money = currency.and_then(|currency| Money::new(self.amount_cents, currency).ok());
        money.map_or_else(
            || format!("{} {}", self.amount_cents, self.currency),
            |money| money.to_string(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_the_decimals_of_its_currency() {
        let amount = |amount_cents, currency: &str| {
            let payment = Payment {
                order_id: String::new(),
                amount_cents,
                currency: currency.to_owned(),
                return_to: String::new(),
            };
            payment.amount()
        };
        assert_eq!(amount(4900, "EUR"), "€49.00");
        assert_eq!(amount(4900, "JPY"), "¥4900");
        assert_eq!(amount(4900, "KWD"), "KWD 4.900");
        assert_eq!(amount(-1, "bitcoin"), "-1 bitcoin");
    }
}
