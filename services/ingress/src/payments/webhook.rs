//! The payment provider's signature, in one of two forms: `X-Signature: t=<unix seconds>,v1=<hex HMAC-SHA256 of
//! "t.body">`, or that of [Standard Webhooks](https://www.standardwebhooks.com): `webhook-id`,
//! `webhook-timestamp` and `webhook-signature: v1,<base64 HMAC-SHA256 of "id.timestamp.body">`. Either may hold
//! several signatures, as of a provider that changes its secret. The time is signed too, so that a recorded
//! request is of no use later.

use std::ops::BitOr;
use std::time::Instant;

use actix_web::http::header::HeaderMap;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use seckill_credentials::metrics::PREVIOUS_SECRET_USES;
use seckill_credentials::signature::{Code, code};
use seckill_service::settings::Secret;
use subtle::{Choice, ConstantTimeEq};

use crate::metrics;
use crate::payments::seldom::Seldom;

/// How far the signature's time may be from ours, in seconds, in either direction.
const TOLERANCE_SECONDS: u64 = 300;
/// What a secret of Standard Webhooks begins with; the key follows in base64.
const STANDARD_PREFIX: &str = "whsec_";
/// The shortest key of Standard Webhooks.
const STANDARD_KEY_MIN_BYTES: usize = 24;
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a signature is not valid. The caller is not told: it would only help an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("there is no signature")]
    Missing,
    /// It is in neither form.
    #[error("the signature is malformed")]
    Malformed,
    /// Its time is too far from ours.
    #[error("the signature is more than {TOLERANCE_SECONDS} s old or early")]
    Stale,
    /// It was made with another key or for another body.
    #[error("the signature is not of this body")]
    Wrong,
}

impl SignatureError {
    /// As metrics spell it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Stale => "stale",
            Self::Wrong => "wrong",
        }
    }
}

/// Checks the provider's signatures, and counts requests without a valid one.
#[derive(Debug)]
pub struct Webhook {
    keys: Vec<Key>,
    refused: Seldom,
}

/// One secret, as both forms use it.
struct Key {
    own: Vec<u8>,
    standard: Vec<u8>,
}

/// The claim of a request's headers, before its body is read.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim {
    form: Form,
    /// What is signed before the body.
    prefix: Vec<u8>,
    codes: Vec<Code>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Own,
    Standard,
}

/// Whether a secret can be a key. One of Standard Webhooks has to be what it looks like.
///
/// # Errors
/// What it should be.
pub fn check_secret(secret: &Secret) -> Result<(), &'static str> {
    standard_key(secret.expose()).map(|_| ())
}

impl Webhook {
    /// With the secret in use, and the one that was before or will be next, where there is one.
    ///
    /// # Errors
    /// As [`check_secret`].
    pub fn new(secret: &Secret, previous: Option<&Secret>) -> Result<Self, &'static str> {
        let key = |secret: &Secret| -> Result<Key, &'static str> {
            let standard = standard_key(secret.expose())?;
            let own = secret.expose().as_bytes().to_vec();
            Ok(Key { own, standard })
        };
        let keys = std::iter::once(secret).chain(previous).map(key);
        Ok(Self {
            keys: keys.collect::<Result<_, _>>()?,
            refused: Seldom::default(),
        })
    }

    /// The claim of the headers, if it is plausible. If not, the body need not be read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn claim(
        &self,
        headers: &HeaderMap,
        now_unix_seconds: i64,
    ) -> Result<Claim, SignatureError> {
        let claim = Claim::read(headers, now_unix_seconds);
        claim.inspect_err(|error| self.count(*error))
    }

    /// Checks the claim against the body, in constant time where it depends on a secret.
    ///
    /// # Errors
    /// [`SignatureError::Wrong`].
    pub fn check(&self, claim: &Claim, body: &[u8]) -> Result<(), SignatureError> {
        let made_it = |key: &Key| -> bool {
            let key = match claim.form {
                Form::Own => &key.own,
                Form::Standard => &key.standard,
            };
            let expected = code(key, &[&claim.prefix, body]);
            let known = claim.codes.iter().map(|code| code.ct_eq(&expected));
            known.fold(Choice::from(0), Choice::bitor).into()
        };
        match self.keys.iter().position(made_it) {
            Some(0) => Ok(()),
            Some(_) => {
                PREVIOUS_SECRET_USES.with(["payment-webhook"]).increment(1);
                Ok(())
            }
            None => {
                self.count(SignatureError::Wrong);
                Err(SignatureError::Wrong)
            }
        }
    }

    fn count(&self, error: SignatureError) {
        metrics::WEBHOOK_REFUSED.with([error.as_str()]).increment(1);
        if let Some(calls) = self.refused.count(Instant::now()) {
            tracing::warn!(calls, last = %error, "payment webhook refused");
        }
    }
}

impl Claim {
    fn read(headers: &HeaderMap, now_unix_seconds: i64) -> Result<Self, SignatureError> {
        let (seconds, claim) = match one(headers, "x-signature")? {
            Some(header) => own(header).ok_or(SignatureError::Malformed)?,
            None => standard(headers)?,
        };
        if now_unix_seconds.abs_diff(seconds) > TOLERANCE_SECONDS {
            return Err(SignatureError::Stale);
        }
        Ok(claim)
    }
}

/// A header that comes at most once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, SignatureError> {
    let mut values = headers.get_all(name);
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(SignatureError::Malformed);
    }
    let text = value.to_str().map_err(|_| SignatureError::Malformed)?;
    Ok(Some(text))
}

/// One `t`, and at least one `v1`. Other schemes than `v1` are the provider's own business.
fn own(header: &str) -> Option<(i64, Claim)> {
    let (mut time, mut codes) = (None, Vec::new());
    for part in header.split(',') {
        match part.trim().split_once('=')? {
            ("t", _) if time.is_some() => return None,
            ("t", text) => time = Some(text),
            ("v1", text) => codes.push(hex::decode(text).ok()?.try_into().ok()?),
            _ => {}
        }
    }
    let time = time?;
    let claim = Claim {
        form: Form::Own,
        prefix: format!("{time}.").into_bytes(),
        codes,
    };
    (!claim.codes.is_empty()).then_some((seconds(time)?, claim))
}

fn standard(headers: &HeaderMap) -> Result<(i64, Claim), SignatureError> {
    let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
    let [id, time, signatures] = names.map(|name| one(headers, name));
    let (Some(id), Some(time), Some(signatures)) = (id?, time?, signatures?) else {
        return Err(SignatureError::Missing);
    };
    let code = |text: &str| {
        BASE64
            .decode(text.strip_prefix("v1,")?)
            .ok()?
            .try_into()
            .ok()
    };
    let claim = Claim {
        form: Form::Standard,
        prefix: format!("{id}.{time}.").into_bytes(),
        codes: signatures.split(' ').filter_map(code).collect(),
    };
    match seconds(time) {
        Some(seconds) if !claim.codes.is_empty() && !id.is_empty() => Ok((seconds, claim)),
        _ => Err(SignatureError::Malformed),
    }
}

/// Digits only: a text that parses to the same number but is another (`+5`, `05`) is not what is signed.
fn seconds(time: &str) -> Option<i64> {
    let seconds: i64 = time.parse().ok()?;
    (seconds.to_string() == time).then_some(seconds)
}

fn standard_key(secret: &str) -> Result<Vec<u8>, &'static str> {
    let Some(encoded) = secret.strip_prefix(STANDARD_PREFIX) else {
        return Ok(secret.as_bytes().to_vec());
    };
    match BASE64.decode(encoded) {
        Ok(key) if key.len() >= STANDARD_KEY_MIN_BYTES => Ok(key),
        _ => Err("after whsec_ there are at least 24 bytes in base64"),
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(redacted)")
    }
}

#[cfg(test)]
mod tests;
