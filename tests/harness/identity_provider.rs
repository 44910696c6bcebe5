//! An identity provider for tests: it serves its discovery document and its keys, and makes real signatures.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use seckill_testkit::http_server::{HttpServer, Request};
use serde_json::{Value, json};
use sha2::Sha256;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key pair with its key id.
pub struct Key {
    kid: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Key {
    /// A key for RS256.
    ///
    /// # Errors
    /// When openssl fails.
    pub fn rsa(kid: &'static str) -> Result<Self> {
        let output = Command::new("openssl")
            .args(["genpkey", "-algorithm", "RSA", "-outform", "DER"])
            .args(["-pkeyopt", "rsa_keygen_bits:2048"])
            .output()?;
        ensure!(output.status.success(), "{output:?}");
        let pair = RsaKeyPair::from_der(&output.stdout)
            .ok()
            .context("no key")?;
        Ok(Self {
            kid,
            pair: Pair::Rsa(pair),
        })
    }

    /// A key for ES256.
    ///
    /// # Errors
    /// Without randomness.
    pub fn ec(kid: &'static str) -> Result<Self> {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let generated = EcdsaKeyPair::generate_pkcs8(kind, &random);
        let generated = generated.ok().context("no key")?;
        let pair = EcdsaKeyPair::from_pkcs8(kind, generated.as_ref(), &random);
        let pair = pair.ok().context("no key")?;
        Ok(Self {
            kid,
            pair: Pair::Ec(pair),
        })
    }

    const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_) => "ES256",
        }
    }

    fn public(&self) -> Value {
        match &self.pair {
            Pair::Rsa(pair) => {
                let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "kid": self.kid, "use": "sig", "alg": "RS256",
                    "n": base64(public.n), "e": base64(public.e) })
            }
            Pair::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "kid": self.kid, "use": "sig", "crv": "P-256",
                    "x": base64(&point[1..33]), "y": base64(&point[33..]) })
            }
        }
    }

    /// The public key, which an attacker knows.
    fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ec(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// A token with this header, which may be wrong.
    ///
    /// # Errors
    /// Without randomness.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let signed = format!(
            "{}.{}",
            base64(header.to_string()),
            base64(claims.to_string())
        );
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let done = pair.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    signed.as_bytes(),
                    &mut signature,
                );
                done.ok().context("not signed")?;
                signature
            }
            Pair::Ec(pair) => {
                let done = pair.sign(&random, signed.as_bytes());
                done.ok().context("not signed")?.as_ref().to_vec()
            }
        };
        Ok(format!("{signed}.{}", base64(signature)))
    }

    /// A token with a correct header.
    ///
    /// # Errors
    /// Without randomness.
    pub fn token(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": self.algorithm(), "kid": self.kid, "typ": "JWT" });
        self.sign(&header, claims)
    }
}

/// Serves until it is dropped.
#[derive(Debug)]
pub struct Provider {
    url: String,
    keys: Arc<Mutex<Vec<Value>>>,
    /// How often its keys were asked for.
    asked: Arc<AtomicUsize>,
    _server: HttpServer,
}

impl Provider {
    /// Starts one on this port, or on any free one (0), with these keys.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(port: u16, keys: &[&Key]) -> Result<Self> {
        let (public, asked) = (Arc::new(Mutex::default()), Arc::default());
        let (served, counted) = (Arc::clone(&public), Arc::clone(&asked));
        let server = HttpServer::start(port, move |request| {
            answer(&request, &served, &counted).unwrap_or((404, String::new()))
        })?;
        let provider = Self {
            url: url(server.port()),
            keys: public,
            asked,
            _server: server,
        };
        provider.rotate(keys);
        Ok(provider)
    }

    /// Replaces its keys with these.
    pub fn rotate(&self, keys: &[&Key]) {
        let public = keys.iter().map(|key| key.public()).collect();
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = public;
    }

    /// Its URL, which is `iss` of its tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How often its keys were asked for.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// The URL of a provider on this port.
#[must_use]
pub fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/realms/shop")
}

fn answer(
    request: &Request,
    keys: &Mutex<Vec<Value>>,
    asked: &AtomicUsize,
) -> Option<(u16, String)> {
    let body = match request.path.strip_prefix("/realms/shop")? {
        "/.well-known/openid-configuration" => {
            let url = format!("http://{}/realms/shop", request.header("host")?);
            json!({ "jwks_uri": format!("{url}/keys"), "issuer": url })
        }
        "/keys" => {
            asked.fetch_add(1, Ordering::SeqCst);
            let keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
            json!({ "keys": *keys })
        }
        _ => return None,
    };
    Some((200, body.to_string()))
}

/// The claims of a valid token for this audience, and for `account`, as in Keycloak's tokens.
///
/// # Errors
/// When the clock is before 1970.
pub fn claims(issuer: &str, audience: &str, sub: &str) -> Result<Value> {
    let now = UNIX_EPOCH.elapsed()?.as_secs();
    Ok(json!({
        "iss": issuer, "aud": ["account", audience], "sub": sub,
        "iat": now, "nbf": now, "exp": now + 300,
    }))
}

/// Invalid tokens with these claims, each with a description of its only error. `forged` are the claims that an
/// attacker wants to have.
///
/// # Errors
/// When there is no clock, or no randomness.
pub fn wrong_tokens(
    good: &Value,
    forged: &Value,
    rsa: &Key,
    ec: &Key,
) -> Result<Vec<(&'static str, String)>> {
    let now = good["iat"].as_u64().context("iat")?;
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        rsa.token(&claims)
    };
    let without = |name: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().context("claims")?.remove(name);
        rsa.token(&claims)
    };
    let unsigned = format!(
        "{}.{}.",
        base64(json!({ "alg": "none", "kid": "rsa" }).to_string()),
        base64(good.to_string())
    );
    // A server that uses the public key as a secret for HMAC would accept tokens of anybody.
    let hmac = |key: &Key| {
        let header = json!({ "alg": "HS256", "kid": key.kid });
        let signed = format!(
            "{}.{}",
            base64(header.to_string()),
            base64(good.to_string())
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&key.public_bytes())?;
        mac.update(signed.as_bytes());
        anyhow::Ok(format!("{signed}.{}", base64(mac.finalize().into_bytes())))
    };
    let token = rsa.token(good)?;
    let (head, rest) = token.split_once('.').context("a token")?;
    let (_, signature) = rest.split_once('.').context("a token")?;
    let forged = base64(forged.to_string());
    let stranger = Key::ec("ec")?;
    Ok(vec![
        ("another audience", with("aud", json!("account"))?),
        ("no audience", without("aud")?),
        (
            "another issuer",
            with("iss", json!("https://login.example"))?,
        ),
        ("no issuer", without("iss")?),
        ("expired", with("exp", json!(now - 60))?),
        ("without an end", without("exp")?),
        ("not yet valid", with("nbf", json!(now + 120))?),
        ("nobody's", without("sub")?),
        ("not signed", unsigned),
        ("HS256 with the public RSA key", hmac(rsa)?),
        ("HS256 with the public EC key", hmac(ec)?),
        (
            "the other key's algorithm",
            ec.sign(&json!({ "alg": "ES256", "kid": "rsa" }), good)?,
        ),
        (
            "another algorithm of its key",
            rsa.sign(&json!({ "alg": "RS512", "kid": "rsa" }), good)?,
        ),
        (
            "of a key that the provider does not have",
            stranger.token(good)?,
        ),
        ("of no key", rsa.sign(&json!({ "alg": "RS256" }), good)?),
        ("changed", format!("{head}.{forged}.{signature}")),
        (
            "cut off",
            format!("{head}.{rest}")[..token.len() - 4].to_owned(),
        ),
        ("no token", "kim".to_owned()),
    ])
}
