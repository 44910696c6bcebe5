//! Money: whole cents and an ISO 4217 currency. No arithmetic that could round.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a currency, or an amount not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// A currency is three capital letters of ISO 4217.
    #[error("a currency is three capital letters of ISO 4217, such as EUR")]
    Currency,
    /// An amount is not negative.
    #[error("an amount in cents is 0 or more")]
    Negative,
}

/// Three capital letters of ISO 4217.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// As text.
    ///
    /// # Panics
    /// Never: only ASCII capitals get in.
    #[must_use]
    pub const fn as_str(&self) -> &str {
        match str::from_utf8(&self.0) {
            Ok(text) => text,
            Err(_) => unreachable!(),
        }
    }
}

impl FromStr for Currency {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(MoneyError::Currency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An amount of zero or more cents in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    cents: i64,
    currency: Currency,
}

impl Money {
    /// Checks the sign.
    ///
    /// # Errors
    /// [`MoneyError::Negative`] below zero.
    pub const fn new(cents: i64, currency: Currency) -> Result<Self, MoneyError> {
        if cents >= 0 {
            Ok(Self { cents, currency })
        } else {
            Err(MoneyError::Negative)
        }
    }

    /// The amount in cents.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.cents
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The price of `quantity` units; the largest amount there is instead of an overflow, which
    /// no payment can match.
    #[must_use]
    pub fn times(self, quantity: u32) -> Self {
        Self {
            cents: self.cents.saturating_mul(i64::from(quantity)),
            currency: self.currency,
        }
    }
}
