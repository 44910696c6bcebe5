//! JWTs signed with HS256 here, or with RS256 and ES256 by an identity provider, and with nothing else: the library's other
//! algorithms and their libraries are not part of the programs. Public keys are ring's, which TLS brings.

use std::sync::Once;

use hmac::{Hmac, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwkUtils, JwtSigner, JwtVerifier};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error, Signer, Verifier};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey, Header, Validation,
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::Sha256;

static OURS: CryptoProvider = CryptoProvider {
    signer_factory: |algorithm, key| {
        let signer = Hs256::new(*algorithm, key.try_get_hmac_secret()?)?;
        Ok(Box::new(signer) as Box<dyn JwtSigner>)
    },
    verifier_factory: |algorithm, key| {
        if *algorithm == Algorithm::HS256 {
            let verifier = Hs256::new(*algorithm, key.try_get_hmac_secret()?)?;
            return Ok(Box::new(verifier) as Box<dyn JwtVerifier>);
        }
        Ok(Box::new(Public::new(*algorithm, key)?) as Box<dyn JwtVerifier>)
    },
    jwk_utils: JwkUtils::new_unimplemented(),
};

/// The library is told once a process, before its first use.
fn tell_the_library() {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        // Nobody else tells it another one: all come here.
        let _ = OURS.install_default();
    });
}

/// A token with these claims.
///
/// # Errors
/// When the claims are no JSON, or the header names another algorithm.
pub(crate) fn encode(
    header: &Header,
    claims: &impl Serialize,
    key: &EncodingKey,
) -> Result<String> {
    tell_the_library();
    jsonwebtoken::encode(header, claims, key)
}

/// The claims of a token whose signature is good and whose claims are as `validation` asks.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode<T: DeserializeOwned>(
    token: &str,
    key: &DecodingKey,
    validation: &Validation,
) -> Result<T> {
    tell_the_library();
    Ok(jsonwebtoken::decode(token, key, validation)?.claims)
}

struct Hs256(Hmac<Sha256>);

impl Hs256 {
    fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self> {
        if algorithm != Algorithm::HS256 {
            return Err(ErrorKind::InvalidAlgorithm.into());
        }
        let mac = Hmac::new_from_slice(secret).map_err(|_| ErrorKind::InvalidKeyFormat)?;
        Ok(Self(mac))
    }
}

impl Signer<Vec<u8>> for Hs256 {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, Error> {
        let mac = self.0.clone().chain_update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}

impl JwtSigner for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let mac = self.0.clone().chain_update(message);
        // In constant time.
        mac.verify_slice(signature).map_err(Error::from_source)
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// A provider's key, which only checks.
struct Public(Algorithm, DecodingKey);

impl Public {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        match (algorithm, key.family(), key.kind()) {
            (
                Algorithm::RS256,
                AlgorithmFamily::Rsa,
                DecodingKeyKind::RsaModulusExponent { .. },
            )
            | (Algorithm::ES256, AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(_)) => {
                Ok(Self(algorithm, key.clone()))
            }
            _ => Err(ErrorKind::InvalidAlgorithm.into()),
        }
    }
}

impl Verifier<Vec<u8>> for Public {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), Error> {
        let verified =
            match self.1.kind() {
                DecodingKeyKind::RsaModulusExponent { n, e } => RsaPublicKeyComponents { n, e }
                    .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
                DecodingKeyKind::SecretOrDer(point) => {
                    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
                    key.verify(message, signature)
                }
            };
        verified.map_err(|_| Error::new())
    }
}

impl JwtVerifier for Public {
    fn algorithm(&self) -> Algorithm {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Claims = BTreeMap<String, String>;

    /// RFC 7515, appendix A.1: JOSE header, payload and signature, with the key of A.1.1 in bytes.
    #[test]
    fn the_example_of_the_rfc_is_good_and_a_changed_one_is_not() {
        const TOKEN: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
            eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
            dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        const KEY: &str = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ+EstJQLr/T+1qS0gZH75\
            aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow==";
        let key = DecodingKey::from_base64_secret(KEY).unwrap();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let claims = |token: &str| decode::<serde_json::Value>(token, &key, &validation);
        assert_eq!(claims(TOKEN).unwrap()["iss"], "joe");
        let changed = TOKEN.replace("dBjf", "eBjf");
        let refused = claims(&changed).unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::InvalidSignature);
    }

    #[test]
    fn no_other_algorithm_signs_or_is_believed() {
        let (key, claims) = (EncodingKey::from_secret(b"key"), Claims::new());
        for other in [Algorithm::HS384, Algorithm::HS512, Algorithm::RS256] {
            assert!(encode(&Header::new(other), &claims, &key).is_err());
        }
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let mut validation = Validation::new(Algorithm::HS512);
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_secret(b"key");
        assert!(decode::<Claims>(&token, &key, &validation).is_err());
    }
}
