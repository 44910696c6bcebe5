//! The number of the user of an address.

use crate::address::{Address, keyed_hash};

/// No hashed number is smaller. All of them, up to 2^53 - 1, are whole numbers also in JavaScript.
pub const USER_NUMBER_MIN: i64 = 1 << 52;

/// The number of the user of `address` under the key of this deployment. Where another address has it
/// already, the next `attempt` (0, 1, ...) gives another number.
///
/// A hash and not a counter: a store that lost its last rows gives the same address the same number again,
/// and does not give a stranger a number that somebody had. Two of a million addresses share a first number
/// with a chance of about 1 in 10,000.
#[must_use]
pub fn user_number(key: &[u8], address: &Address, attempt: u32) -> i64 {
    let digest = keyed_hash(key, &["user", address.as_str(), &attempt.to_string()]);
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    USER_NUMBER_MIN | (i64::from_be_bytes(number) & (USER_NUMBER_MIN - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_depends_on_the_address_the_key_and_the_attempt_and_on_nothing_else() {
        let ada: Address = "Ada@Example.com".parse().unwrap();
        let bob: Address = "bob@example.com".parse().unwrap();
        let number = user_number(b"a key", &ada, 0);
        assert_eq!(
            number,
            user_number(b"a key", &"ada@example.com".parse().unwrap(), 0)
        );
        // Numbers that were given out must not change with a later version.
        assert_eq!(number, 4_668_423_114_063_018);
        for other in [
            user_number(b"another", &ada, 0),
            user_number(b"a key", &bob, 0),
            user_number(b"a key", &ada, 1),
        ] {
            assert_ne!(number, other);
            assert!((USER_NUMBER_MIN..1 << 53).contains(&other));
        }
    }
}
