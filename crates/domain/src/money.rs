//! Money: whole minor units and a currency. No arithmetic that could round.
//!
//! Members, columns and arguments that are called *cents* count minor units as ISO 4217 has them: 4900 are
//! 49.00 euros, 4900 yen and 4.900 Kuwaiti dinars.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a currency, or an amount not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// A currency is three capital letters of ISO 4217.
    #[error("a currency is three capital letters of ISO 4217, such as EUR")]
    Currency,
    /// ISO 4217 has no such currency in use, or no minor unit of it.
    #[error("{0} is no currency of ISO 4217 that is in use and has a minor unit")]
    Unknown(Currency),
    /// An amount is not negative.
    #[error("an amount in minor units is 0 or more")]
    Negative,
}

/// ISO 4217's currencies and funds in use, by the number of decimals of their minor unit. Metals, units of
/// account and codes for tests have none, and no sale can be priced in them.
const IN_USE: [(usize, &str); 4] = [
    (
        0,
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    ),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF \
         CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL \
         HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU \
         MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR \
         SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED \
         VES WST XAD XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// Three capital letters. A log may contain any code; a new sale needs a currency that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// A currency for a new sale: it has to be one of ISO 4217 that is in use.
    ///
    /// # Errors
    /// [`MoneyError::Currency`], [`MoneyError::Unknown`].
    pub fn in_use(text: &str) -> Result<Self, MoneyError> {
        let currency: Self = text.parse()?;
        match currency.decimals() {
            Some(_) => Ok(currency),
            None => Err(MoneyError::Unknown(currency)),
        }
    }

    /// All of ISO 4217's in use that have a minor unit.
    pub fn all_in_use() -> impl Iterator<Item = Self> {
        let codes = IN_USE.iter().flat_map(|(_, codes)| codes.split(' '));
        codes.filter_map(|code| code.parse().ok())
    }

    /// How many decimals its minor unit is; none where ISO 4217 does not say.
    #[must_use]
    pub fn decimals(self) -> Option<usize> {
        let of = |(_, codes): &&(usize, &str)| codes.split(' ').any(|code| code == self.as_str());
        IN_USE.iter().find(of).map(|(decimals, _)| *decimals)
    }

    /// The text before an amount: a currency sign that only this currency uses, or its code.
    #[must_use]
    pub fn prefix(self) -> String {
        match self.as_str() {
            "EUR" => "€".to_owned(),
            "GBP" => "£".to_owned(),
            "JPY" => "¥".to_owned(),
            code => format!("{code} "),
        }
    }

    /// As text.
    ///
    /// # Panics
    /// Does not happen: the value consists of ASCII capitals.
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

/// An amount of zero or more minor units of one currency.
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

    /// The amount in minor units.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.cents
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The price of `quantity` units. Instead of an overflow it is the largest amount that there is, which
    /// no payment can match.
    #[must_use]
    pub fn times(self, quantity: u32) -> Self {
        Self {
            cents: self.cents.saturating_mul(i64::from(quantity)),
            currency: self.currency,
        }
    }
}

/// As people read it: `€49.00`, `¥4900`, `KWD 4.900`; plain minor units where ISO 4217 does not know the
/// currency.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.currency.decimals().unwrap_or(0);
        let digits = format!("{:0>width$}", self.cents, width = decimals + 1);
        let (whole, part) = digits.split_at(digits.len() - decimals);
        let point = if part.is_empty() { "" } else { "." };
        write!(f, "{}{whole}{point}{part}", self.currency.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iso_currency::{Currency as Iso, IntoEnumIterator};

    fn shown(cents: i64, currency: &str) -> String {
        let money = Money::new(cents, currency.parse().unwrap());
        money.unwrap().to_string()
    }

    #[test]
    fn an_amount_has_the_decimals_of_its_currency() {
        for (cents, currency, expected) in [
            (4900, "EUR", "€49.00"),
            (5, "EUR", "€0.05"),
            (0, "USD", "USD 0.00"),
            (4900, "JPY", "¥4900"),
            (0, "JPY", "¥0"),
            (4900, "KWD", "KWD 4.900"),
            (7, "KWD", "KWD 0.007"),
            (4900, "CLF", "CLF 0.4900"),
            (4900, "QQQ", "QQQ 4900"),
            (i64::MAX, "UYW", "UYW 922337203685477.5807"),
        ] {
            assert_eq!(shown(cents, currency), expected);
        }
    }

    #[test]
    fn the_currencies_in_use_are_those_of_iso_4217() {
        // Venezuela has two. The list of this test takes one of them for the predecessor of the other.
        let superseded = |iso: Iso| iso.is_superseded().is_some() && iso.code() != "VES";
        for iso in Iso::iter() {
            let currency: Currency = iso.code().parse().unwrap();
            let expected = if superseded(iso) {
                None
            } else {
                iso.exponent()
            };
            assert_eq!(currency.decimals(), expected.map(usize::from), "{currency}");
        }
        let known = |currency: Currency| Iso::from_code(currency.as_str()).is_some();
        assert!(Currency::all_in_use().all(known));
    }

    #[test]
    fn only_what_is_in_use_can_be_asked_for_and_a_log_may_hold_more() {
        for code in ["EUR", "JPY", "KWD", "UYW", "XOF"] {
            assert_eq!(Currency::in_use(code), code.parse());
        }
        for code in ["XAU", "XXX", "XTS", "DEM", "QQQ"] {
            let currency = code.parse().unwrap();
            assert_eq!(Currency::in_use(code), Err(MoneyError::Unknown(currency)));
        }
        assert_eq!(Currency::in_use("eur"), Err(MoneyError::Currency));
    }
}
