//! E-mail addresses as people type them, and as they are told apart.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// RFC 5321, 4.5.3.1.
const ADDRESS_MAX_BYTES: usize = 254;
const LOCAL_PART_MAX_BYTES: usize = 64;
const DOMAIN_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;

/// An address, in lower case: one person who types it in two ways is one user. ASCII, a dot-atom
/// before the `@` and a domain name behind it: what quoted local parts and address literals allow
/// beyond that nobody signs in with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

/// The text is no address that mail can be sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an e-mail address like name@example.com, of at most 254 ASCII characters")]
pub struct AddressError;

/// A domain whose addresses may sign in, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Domain(String);

/// The text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no domain name like example.com")]
pub struct DomainError;

/// Whose mail goes to one mailbox whatever dots are in the name, all of them under the first of these.
const WITHOUT_DOTS: [&str; 2] = ["gmail.com", "googlemail.com"];

/// What stands for an address, of mail or of a client, in names of keys: 32 hexadecimal digits that
/// without the secret say nothing about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AddressHash(String);

impl Address {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is of one of `domains`. No domains: every address is.
    #[must_use]
    pub fn is_of(&self, domains: &[Domain]) -> bool {
        let own = self.0.rsplit_once('@').map_or("", |(_, domain)| domain);
        domains.is_empty() || domains.iter().any(|domain| domain.0 == own)
    }

    /// The address that all spellings of its mailbox share, as far as their form tells: without what
    /// follows a `+`, and where the provider ignores dots, without these.
    #[must_use]
    pub fn mailbox(&self) -> Self {
        let (local, domain) = self.0.split_once('@').unwrap_or((&self.0, ""));
        let name = local.split('+').next().filter(|name| !name.is_empty());
        let name = name.unwrap_or(local);
        if WITHOUT_DOTS.contains(&domain) {
            Self(format!("{}@{}", name.replace('.', ""), WITHOUT_DOTS[0]))
        } else {
            Self(format!("{name}@{domain}"))
        }
    }

    /// Its hash under `secret`.
    #[must_use]
    pub fn hash(&self, secret: &[u8]) -> AddressHash {
        let digest = keyed_hash(secret, &["address", &self.0]);
        AddressHash::of(&digest)
    }
}

impl AddressHash {
    pub(crate) fn of(digest: &[u8; 32]) -> Self {
        Self(hex::encode(&digest[..16]))
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim().to_ascii_lowercase();
        let (local, domain) = text.split_once('@').ok_or(AddressError)?;
        let local_fits = (1..=LOCAL_PART_MAX_BYTES).contains(&local.len())
            && local.split('.').all(|atom| !atom.is_empty())
            && local.bytes().all(is_local_byte);
        if local_fits && is_domain(domain) && text.len() <= ADDRESS_MAX_BYTES {
            Ok(Self(text))
        } else {
            Err(AddressError)
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Domain {
    type Err = DomainError;

    fn from_str(text: &str) -> Result<Self, DomainError> {
        let domain = text.trim().to_ascii_lowercase();
        if is_domain(&domain) {
            Ok(Self(domain))
        } else {
            Err(DomainError)
        }
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AddressHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 5322's `atext`, and the dot.
fn is_local_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)
}

fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX_BYTES).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.len() <= DOMAIN_MAX_BYTES && text.split('.').all(is_label)
}

/// HMAC-SHA-256 of parts that cannot run into one another: each ends with a zero byte, which no
/// part has.
pub(crate) fn keyed_hash(secret: &[u8], parts: &[&str]) -> [u8; 32] {
    // Of the hash's block size, so that no key is too long or too short.
    let mut key = [0; 64];
    key[..32].copy_from_slice(&Sha256::digest(secret));
    let mut mac = Hmac::<Sha256>::new(&key.into());
    for part in parts {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_however_it_is_typed() {
        let typed: Address = " Ada.Lovelace+shop@Example.COM ".parse().unwrap();
        assert_eq!(typed.as_str(), "ada.lovelace+shop@example.com");
        assert_eq!(typed.hash(b"key").to_string().len(), 32);
        let other: Address = "ada.lovelace@example.com".parse().unwrap();
        assert_ne!(typed.hash(b"key"), other.hash(b"key"));
        assert_ne!(typed.hash(b"key"), typed.hash(b"another"));
    }

    #[test]
    fn a_mailbox_is_one_whatever_is_behind_a_plus_and_dots_count_where_the_provider_says_so() {
        for (typed, mailbox) in [
            ("ada@example.com", "ada@example.com"),
            ("Ada+shop+2@Example.com", "ada@example.com"),
            ("a.da@example.com", "a.da@example.com"),
            ("A.d.a+1@GoogleMail.com", "ada@gmail.com"),
            ("ada@gmail.com", "ada@gmail.com"),
            ("+ada@example.com", "+ada@example.com"),
        ] {
            let address: Address = typed.parse().unwrap();
            assert_eq!(address.mailbox().as_str(), mailbox, "{typed}");
            assert_eq!(address.mailbox().mailbox(), address.mailbox(), "{typed}");
        }
    }

    #[test]
    fn what_mail_could_be_misled_by_is_no_address() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_domain = format!("a@{}com", "abcdefgh.".repeat(30));
        for text in [
            "",
            "@",
            "a@",
            "@example.com",
            "a",
            "a@b@c",
            "a b@example.com",
            "a@exam ple.com",
            "a@example.com\r\nBcc: b@example.com",
            "a\n@example.com",
            "\"a b\"@example.com",
            "a@[127.0.0.1]",
            "a@-example.com",
            "a@example..com",
            ".a@example.com",
            "a..b@example.com",
            "a@example.com.",
            "ä@example.com",
            "a@exämple.com",
            "<a@example.com>",
            "a@example.com,b@example.com",
            "a@example_com",
            "a\0@example.com",
            &long_local,
            &long_domain,
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text:?}");
        }
    }

    #[test]
    fn only_listed_domains_if_any_are_and_not_their_subdomains() {
        let domains: Vec<Domain> = vec!["Uni.example".parse().unwrap()];
        let is_of = |text: &str| text.parse::<Address>().unwrap().is_of(&domains);
        assert!(is_of("a@uni.EXAMPLE"));
        assert!(!is_of("a@mail.uni.example"));
        assert!(!is_of("a@notuni.example"));
        assert!("a@anything.example".parse::<Address>().unwrap().is_of(&[]));
        assert!("".parse::<Domain>().is_err());
        assert!("a@b".parse::<Domain>().is_err());
    }
}
