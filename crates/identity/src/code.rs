//! The code that is mailed, and what is kept of it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use subtle::ConstantTimeEq;

use crate::address::keyed_hash;
use crate::{Address, AddressHash};

/// Digits of a code.
pub const CODE_DIGITS: usize = 6;
/// Digits of a code while somebody guesses: too many to be guessed.
pub const LONG_CODE_DIGITS: usize = 10;

/// A code: so many decimal digits. Never printed but into its mail.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(String);

/// The operating system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random numbers from the operating system: {0}")]
pub struct RandomError(getrandom::Error);

/// What a code is hashed under. Who reads the store cannot try all codes without it.
#[derive(Clone)]
pub struct CodeKey(Vec<u8>);

/// What is stored of a code: HMAC-SHA-256 over the address and the code, 64 hexadecimal digits.
/// Compares in constant time.
#[derive(Debug, Clone)]
pub struct CodeHash(String);

impl Code {
    /// A new one of so many digits, at most 19; each is as likely as any other.
    ///
    /// # Errors
    /// When the operating system has no random numbers.
    pub fn random(digits: usize) -> Result<Self, RandomError> {
        let codes = 10_u64.pow(u32::try_from(digits).unwrap_or(u32::MAX));
        // What is left of 2^64 above a multiple of the number of codes is drawn again.
        let bound = u64::MAX - u64::MAX % codes;
        loop {
            let drawn = getrandom::u64().map_err(RandomError)?;
            if drawn < bound {
                return Ok(Self(format!("{:0digits$}", drawn % codes)));
            }
        }
    }

    /// Its digits, for the mail.
    #[must_use]
    pub fn digits(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = ();

    /// Spaces around and within are what people copy with it.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits: String = text.chars().filter(|c| *c != ' ').collect();
        let fits = [CODE_DIGITS, LONG_CODE_DIGITS].contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit());
        fits.then_some(Self(digits)).ok_or(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(redacted)")
    }
}

impl CodeKey {
    /// From any secret: codes and names of keys are hashed under keys of their own.
    #[must_use]
    pub fn derived_from(secret: &str) -> Self {
        Self(keyed_hash(secret.as_bytes(), &["sign-in codes"]).to_vec())
    }

    /// The hash of an address in names of keys.
    #[must_use]
    pub fn hash_address(&self, address: &Address) -> AddressHash {
        address.hash(&self.0)
    }

    /// The hash of a client's address in names of keys.
    #[must_use]
    pub fn hash_client(&self, client: IpAddr) -> AddressHash {
        AddressHash::of(&keyed_hash(&self.0, &["client", &client.to_string()]))
    }

    /// The hash that is stored of a code for an address.
    #[must_use]
    pub fn hash_code(&self, address: &Address, code: &Code) -> CodeHash {
        let digest = keyed_hash(&self.0, &["code", address.as_str(), code.digits()]);
        CodeHash(hex::encode(digest))
    }
}

impl fmt::Debug for CodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeKey(redacted)")
    }
}

impl CodeHash {
    /// As it was stored.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it is stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for CodeHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for CodeHash {}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CodeKey {
        CodeKey::derived_from("a secret")
    }

    #[test]
    fn a_code_is_six_or_ten_digits_also_with_the_spaces_of_a_copy() {
        let code: Code = "00004 00042".parse().unwrap();
        assert_eq!(code.digits(), "0000400042");
        let code: Code = "000 042".parse().unwrap();
        assert_eq!(code.digits(), "000042");
        for text in [
            "",
            "42",
            "0000042",
            "00004a",
            "-00042",
            "+00042",
            "０００００1",
            "00 00\n42",
        ] {
            assert!(text.parse::<Code>().is_err(), "{text:?}");
        }
        assert!(!format!("{code:?}").contains("42"));
    }

    #[test]
    fn random_codes_differ_and_have_all_lengths_of_leading_zeros() {
        let long = Code::random(LONG_CODE_DIGITS).unwrap();
        assert_eq!(long.digits().parse::<Code>(), Ok(long.clone()));
        let random = |_| Code::random(CODE_DIGITS).unwrap().digits().to_owned();
        let codes: Vec<String> = (0..2_000).map(random).collect();
        assert!(codes.iter().all(|code| code.len() == CODE_DIGITS));
        assert!(codes.iter().any(|code| code.starts_with('0')));
        assert!(codes.iter().any(|code| code.starts_with('9')));
        let mut different = codes;
        different.sort_unstable();
        different.dedup();
        assert!(different.len() > 1_900);
    }

    #[test]
    fn a_hash_is_of_one_address_one_code_and_one_key() {
        let (ada, bob): (Address, Address) = (
            "ada@example.com".parse().unwrap(),
            "bob@example.com".parse().unwrap(),
        );
        let (code, other): (Code, Code) = ("123456".parse().unwrap(), "123457".parse().unwrap());
        let hash = key().hash_code(&ada, &code);
        assert_eq!(hash, CodeHash::stored(hash.as_str()));
        assert_ne!(hash, key().hash_code(&bob, &code));
        assert_ne!(hash, key().hash_code(&ada, &other));
        assert_ne!(
            hash,
            CodeKey::derived_from("another").hash_code(&ada, &code)
        );
        assert!(!hash.as_str().contains("123456"));
    }
}
