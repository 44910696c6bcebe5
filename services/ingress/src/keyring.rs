//! The keys of tokens: one that signs, and while that changes another whose tokens are good, too.

use hmac::{Hmac, Mac};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

/// Signs and checks JWTs of one kind, HS256. The algorithm is ours to choose, never the token's.
pub(crate) struct Keyring {
    header: Header,
    encoding: EncodingKey,
    decoding: DecodingKey,
    previous: Option<DecodingKey>,
    validation: Validation,
}

impl Keyring {
    /// `key` signs; what `validation` asks of a token's claims holds for both keys.
    pub(crate) fn new(key: &[u8], previous: Option<&[u8]>, validation: Validation) -> Self {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(hex::encode(&derived(key, b"key id")[..4]));
        Self {
            header,
            encoding: EncodingKey::from_secret(key),
            decoding: DecodingKey::from_secret(key),
            previous: previous.map(DecodingKey::from_secret),
            validation,
        }
    }

    /// A token that says which key it was signed with.
    pub(crate) fn sign(&self, claims: &impl Serialize) -> Result<String, Error> {
        jsonwebtoken::encode(&self.header, claims, &self.encoding)
    }

    /// The claims of a good token.
    pub(crate) fn check<T: DeserializeOwned>(&self, token: &str) -> Result<T, Error> {
        let checked = jsonwebtoken::decode::<T>(token, &self.decoding, &self.validation);
        let data = match (checked, &self.previous) {
            (Err(error), Some(previous)) if *error.kind() == ErrorKind::InvalidSignature => {
                let data = jsonwebtoken::decode::<T>(token, previous, &self.validation)?;
                metrics::counter!("seckill_previous_secret_uses_total", "secret" => "token")
                    .increment(1);
                data
            }
            (checked, _) => checked?,
        };
        Ok(data.claims)
    }
}

/// A key for one use only.
pub(crate) fn derived(key: &[u8], purpose: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(purpose);
    mac.finalize().into_bytes().into()
}
