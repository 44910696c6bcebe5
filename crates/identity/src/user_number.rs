//! The number of the user of an address, and of an identity provider's user.

use crate::address::{Address, keyed_hash};
use crate::subject::Subject;

/// No hashed number of an address is smaller. All of them, up to 2^53 - 1, are whole numbers also in JavaScript.
pub const USER_NUMBER_MIN: i64 = 1 << 52;

/// No number of an identity provider's user is smaller, and all are below [`USER_NUMBER_MIN`]: so no address ever has one.
const SUBJECT_NUMBER_MIN: i64 = 1 << 51;

/// The number of the user of `address` under the key of this deployment. Where another address has it
/// already, the next `attempt` (0, 1, ...) gives another number.
///
/// A hash and not a counter: a store that lost its last rows gives the same address the same number again,
/// and does not give a stranger a number that somebody had. Two of a million addresses share a first number
/// with a chance of about 1 in 10,000.
#[must_use]
pub fn user_number(key: &[u8], address: &Address, attempt: u32) -> i64 {
    hashed(
        USER_NUMBER_MIN,
        key,
        &["user", address.as_str(), &attempt.to_string()],
    )
}

/// The number of an identity provider's user: a hash for the same reasons.
#[must_use]
pub fn subject_number(key: &[u8], subject: &Subject, attempt: u32) -> i64 {
    let (issuer, sub) = (subject.issuer(), subject.sub());
    let attempt = attempt.to_string();
    hashed(SUBJECT_NUMBER_MIN, key, &["subject", issuer, sub, &attempt])
}

/// Whether a number is one that only an identity provider's user can have.
#[must_use]
pub fn is_subject_number(number: i64) -> bool {
    (SUBJECT_NUMBER_MIN..USER_NUMBER_MIN).contains(&number)
}

/// From `least`, a power of two, to its double.
fn hashed(least: i64, key: &[u8], parts: &[&str]) -> i64 {
    let digest = keyed_hash(key, parts);
    let mut number = [0; 8];
    number.copy_from_slice(&digest[..8]);
    least | (i64::from_be_bytes(number) & (least - 1))
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

    #[test]
    fn a_subject_of_another_issuer_is_another_user_and_none_has_the_number_of_an_address() {
        let subject = |issuer, sub| Subject::new(issuer, sub).unwrap();
        let kim = subject("https://a.example", "kim");
        let number = subject_number(b"a key", &kim, 0);
        // As above.
        assert_eq!(number, 2_328_360_802_679_487);
        for other in [
            subject_number(b"another", &kim, 0),
            subject_number(b"a key", &subject("https://b.example", "kim"), 0),
            subject_number(b"a key", &subject("https://a.example", "Kim"), 0),
            subject_number(b"a key", &subject("https://a.example", "kim "), 0),
            subject_number(b"a key", &kim, 1),
        ] {
            assert_ne!(number, other);
            assert!(is_subject_number(other));
        }
        assert!(is_subject_number(number));
        for (edge, is_one) in [
            (SUBJECT_NUMBER_MIN - 1, false),
            (SUBJECT_NUMBER_MIN, true),
            (USER_NUMBER_MIN - 1, true),
            (USER_NUMBER_MIN, false),
        ] {
            assert_eq!(is_subject_number(edge), is_one, "{edge}");
        }
    }
}
