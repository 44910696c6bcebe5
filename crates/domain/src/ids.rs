//! Identifiers. An order id contains its voucher id, so that the partition of an order is known
//! without a look-up.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Uuid, Variant};

const VOUCHER_BITS: u32 = 40;
const PROCESS_BITS: u32 = 40;
const COUNTER_BITS: u32 = 42;
const PAYMENT_ID_MAX_BYTES: usize = 64;

/// Why a text or number is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A voucher id is a decimal number from 1 to 2^40 - 1.
    #[error("a voucher id is a decimal number from 1 to {max}", max = VoucherId::MAX)]
    Voucher,
    /// A user id is a decimal number from 1 to 2^63 - 1.
    #[error("a user id is a decimal number from 1 to {max}", max = i64::MAX)]
    User,
    /// An order id is a UUID of version 8.
    #[error("an order id is a UUID of version 8, as the order's answer gave it")]
    Order,
    /// An event id is a UUID.
    #[error("an event id is a UUID")]
    Event,
    /// A payment id is 1 to 64 visible ASCII characters.
    #[error("a payment id is 1 to {PAYMENT_ID_MAX_BYTES} visible ASCII characters")]
    Payment,
    /// A key hash is 32 hexadecimal digits.
    #[error("a key hash is 32 hexadecimal digits")]
    KeyHash,
}

/// A sale, 1 to 2^40 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoucherId(u64);

impl VoucherId {
    /// The largest voucher id: it has to fit into the 40 bits an order id gives it.
    pub const MAX: u64 = (1 << VOUCHER_BITS) - 1;

    /// Checks the range.
    ///
    /// # Errors
    /// [`IdError::Voucher`] outside 1 to 2^40 - 1.
    pub const fn new(number: i64) -> Result<Self, IdError> {
        let unsigned = number.cast_unsigned();
        if number >= 1 && unsigned <= Self::MAX {
            Ok(Self(unsigned))
        } else {
            Err(IdError::Voucher)
        }
    }

    /// As the number that Avro's and PostgreSQL's signed 64 bits hold.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0.cast_signed()
    }
}

impl FromStr for VoucherId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(decimal(text).ok_or(IdError::Voucher)?)
    }
}

impl fmt::Display for VoucherId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A buyer, 1 to 2^63 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(i64);

impl UserId {
    /// Checks the range.
    ///
    /// # Errors
    /// [`IdError::User`] below 1.
    pub const fn new(number: i64) -> Result<Self, IdError> {
        if number >= 1 {
            Ok(Self(number))
        } else {
            Err(IdError::User)
        }
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl FromStr for UserId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(decimal(text).ok_or(IdError::User)?)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Digits only: `i64::from_str` also accepts a sign, and then two texts would mean the same id.
fn decimal(text: &str) -> Option<i64> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    canonical.then(|| text.parse().ok()).flatten()
}

/// An order: UUID version 8 made of the voucher (40 bits), the process that made it (40 random
/// bits) and a counter (42 bits), most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(Uuid);

impl OrderId {
    /// Packs the three parts; bits beyond each part's width are cut off.
    #[must_use]
    pub fn from_parts(voucher: VoucherId, process: u64, counter: u64) -> Self {
        let process = u128::from(process) & ((1 << PROCESS_BITS) - 1);
        let counter = u128::from(counter) & ((1 << COUNTER_BITS) - 1);
        let payload = (u128::from(voucher.0) << (PROCESS_BITS + COUNTER_BITS))
            | (process << COUNTER_BITS)
            | counter;
        // RFC 9562 §5.8: 48 bits, version, 12 bits, variant, 62 bits.
        let high = payload >> 74;
        let middle = (payload >> 62) & 0xfff;
        let low = payload & ((1 << 62) - 1);
        Self(Uuid::from_u128(
            (high << 80) | (8 << 76) | (middle << 64) | (0b10 << 62) | low,
        ))
    }

    /// Checks that a UUID is an order id.
    ///
    /// # Errors
    /// [`IdError::Order`] when it is not of version 8 and the standard variant, or names voucher 0.
    pub fn from_uuid(uuid: Uuid) -> Result<Self, IdError> {
        let id = Self(uuid);
        let well_formed = uuid.get_version_num() == 8
            && uuid.get_variant() == Variant::RFC4122
            && id.voucher_bits() != 0;
        if well_formed {
            Ok(id)
        } else {
            Err(IdError::Order)
        }
    }

    /// The UUID itself.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }

    /// The voucher that the order is for.
    #[must_use]
    pub fn voucher_id(self) -> VoucherId {
        VoucherId(self.voucher_bits())
    }

    fn voucher_bits(self) -> u64 {
        let bits = self.0.as_u128() >> (128 - VOUCHER_BITS);
        u64::try_from(bits).expect("40 bits fit")
    }
}

impl FromStr for OrderId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::from_uuid(Uuid::try_parse(text).map_err(|_| IdError::Order)?)
    }
}

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Makes order ids that no other process makes: a random tag drawn once, and a counter.
#[derive(Debug)]
pub struct OrderIdSource {
    process: u64,
    counter: AtomicU64,
}

impl OrderIdSource {
    /// `process` is the random tag of this process; its lowest 40 bits are used.
    #[must_use]
    pub const fn new(process: u64) -> Self {
        Self {
            process,
            counter: AtomicU64::new(0),
        }
    }

    /// The next id for an order of `voucher`.
    pub fn next(&self, voucher: VoucherId) -> OrderId {
        let counter = self.counter.fetch_add(1, Ordering::Relaxed);
        OrderId::from_parts(voucher, self.process, counter)
    }
}

/// An event: a UUID, version 7 where this project makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// Wraps a UUID.
    #[must_use]
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// The UUID itself.
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl FromStr for EventId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::try_parse(text).map(Self).map_err(|_| IdError::Event)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The payment provider's id of a payment: 1 to 64 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PaymentId(String);

impl PaymentId {
    /// Checks length and characters.
    ///
    /// # Errors
    /// [`IdError::Payment`] otherwise.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let fits = (1..=PAYMENT_ID_MAX_BYTES).contains(&text.len());
        if fits && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text))
        } else {
            Err(IdError::Payment)
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PaymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first 16 bytes of the SHA-256 of an idempotency key. The key itself never leaves the ingress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 16]);

impl KeyHash {
    /// Wraps the bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for KeyHash {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number
            .map(|n| Self(n.to_be_bytes()))
            .ok_or(IdError::KeyHash)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_that_are_no_ids_are_refused() {
        for text in ["", "0", "-1", "+1", "01", "1 ", "1099511627776", "x"] {
            assert_eq!(text.parse::<VoucherId>(), Err(IdError::Voucher), "{text:?}");
        }
        for text in ["", "0", "-1", "+5", "9223372036854775808", "1e3"] {
            assert_eq!(text.parse::<UserId>(), Err(IdError::User), "{text:?}");
        }
        let version_4 = "7b0e8f2e-33a1-4c55-9c4d-1f6f4f3a2b10";
        let voucher_0 = "00000000-0000-8000-8000-000000000001";
        for text in ["", "42", version_4, voucher_0] {
            assert_eq!(text.parse::<OrderId>(), Err(IdError::Order), "{text:?}");
        }
        assert!(PaymentId::new("").is_err());
        assert!(PaymentId::new("a b").is_err());
        assert!(PaymentId::new("x".repeat(65)).is_err());
        assert!("zz".parse::<KeyHash>().is_err());
    }

    proptest! {
        #[test]
        fn an_order_id_gives_its_voucher_back(
            voucher in 1..=VoucherId::MAX,
            process in any::<u64>(),
            counter in any::<u64>(),
        ) {
            let voucher = VoucherId(voucher);
            let id = OrderId::from_parts(voucher, process, counter);
            prop_assert_eq!(id.voucher_id(), voucher);
            prop_assert_eq!(id.to_string().parse::<OrderId>(), Ok(id));
        }

        #[test]
        fn different_parts_give_different_ids(
            a in (1..=VoucherId::MAX, 0_u64..1 << 40, 0_u64..1 << 42),
            b in (1..=VoucherId::MAX, 0_u64..1 << 40, 0_u64..1 << 42),
        ) {
            let id = |(v, p, c)| OrderId::from_parts(VoucherId(v), p, c);
            prop_assert_eq!(a == b, id(a) == id(b));
        }

        #[test]
        fn a_key_hash_survives_its_text(bytes in any::<[u8; 16]>()) {
            let hash = KeyHash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse::<KeyHash>(), Ok(hash));
        }
    }
}
