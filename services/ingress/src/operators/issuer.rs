//! An identity provider (OpenID Connect): where it publishes its keys is asked of it, and the keys are remembered.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_credentials::issued::{Claims, Keys, NotGood};
use seckill_http_client::{Bytes, HeaderMap, HttpClient, Limits, Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(3),
    answer_bytes: 256 * 1024,
};
/// Keys that the provider has taken back are good for so long.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// However many tokens name keys that nobody knows, the provider is asked once in this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Whose tokens are good, and for whom they have to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerSettings {
    /// As `iss` of its tokens has it.
    pub issuer: String,
    /// What `aud` has to be, or to have.
    pub audience: String,
}

/// # Errors
/// What is wrong with an issuer's URL.
pub fn check_url(url: &str) -> Result<(), String> {
    client(url).map(|_| ())
}

/// Why nobody was found in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// The token is not good.
    #[error("{0}")]
    Refused(String),
    /// Its key is not known, and the provider could not be asked for it.
    #[error("the identity provider: {0}")]
    Away(String),
}

/// Checks tokens of one provider. Clones share its keys.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    settings: IssuerSettings,
    runtime: Handle,
    keys: RwLock<Arc<Keys>>,
    /// When it was asked last, and why that failed. Who asks holds it.
    asked: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Issuer {
    /// Asks nobody yet; what is asked later is asked on `runtime`.
    #[must_use]
    pub fn new(settings: IssuerSettings, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            settings,
            runtime,
            keys: RwLock::default(),
            asked: Mutex::new(None),
        }))
    }

    /// What a good token says.
    ///
    /// # Errors
    /// Why it is not good, or that this cannot be known now.
    pub async fn verify(&self, token: &str) -> Result<Claims, NotVerified> {
        match self.0.check(token) {
            Err(NotGood::UnknownKey) => {}
            Ok(claims) => return Ok(claims),
            Err(NotGood::Refused(why)) => return Err(NotVerified::Refused(why)),
        }
        let inner = Arc::clone(&self.0);
        let asked = self.0.runtime.spawn(async move { inner.ask().await });
        let asked = asked.await.unwrap_or_else(|error| Err(error.to_string()));
        self.0.check(token).map_err(|error| match (error, asked) {
            (NotGood::UnknownKey, Err(why)) => NotVerified::Away(why),
            (error, _) => NotVerified::Refused(error.to_string()),
        })
    }

    /// Keeps the keys fresh. While the provider is away, those that are known go on being good.
    pub async fn follow(self) {
        loop {
            let asked = self.0.ask().await;
            let pause = match asked {
                Ok(()) => REFRESH_EVERY,
                Err(why) => {
                    let issuer = &self.0.settings.issuer;
                    tracing::warn!(issuer, why, "the identity provider did not give its keys");
                    ASK_AGAIN_AFTER
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

impl Inner {
    fn check(&self, token: &str) -> Result<Claims, NotGood> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let keys = Arc::clone(&keys);
        keys.check(token, &self.settings.issuer, &self.settings.audience)
    }

    /// Who comes while somebody asks waits for that answer.
    async fn ask(&self) -> Result<(), String> {
        let mut asked = self.asked.lock().await;
        if let Some((at, answer)) = &*asked
            && at.elapsed() < ASK_AGAIN_AFTER
        {
            return answer.clone();
        }
        let answer = self.fetch().await.map(|keys| {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        });
        *asked = Some((Instant::now(), answer.clone()));
        answer
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let issuer = &self.settings.issuer;
        let known = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let found: Value = serde_json::from_slice(&get(&known).await?)
            .map_err(|error| format!("{known} is no JSON: {error}"))?;
        // Otherwise one provider could speak for another.
        if found["issuer"] != issuer.as_str() {
            return Err(format!("{known} is of the issuer {}", found["issuer"]));
        }
        let keys = found["jwks_uri"].as_str();
        let keys = keys.ok_or_else(|| format!("{known} names no jwks_uri"))?;
        Keys::read(&get(keys).await?).map_err(|why| format!("{keys} {why}"))
    }
}

async fn get(url: &str) -> Result<Bytes, String> {
    let (client, path) = client(url)?;
    let asked = client.ask(Method::GET, path, HeaderMap::new(), Bytes::new());
    let answer = asked.await.map_err(|error| format!("{url}: {error}"))?;
    if answer.status != StatusCode::OK {
        return Err(format!("{url} answers {}", answer.status));
    }
    Ok(answer.body)
}

/// A client of the URL's server, and the rest of the URL. Whoever is between here and there could exchange the keys: only what
/// stays on this machine goes without TLS.
fn client(url: &str) -> Result<(HttpClient, &str), String> {
    let (scheme, rest) = url.split_once("://").ok_or("is no URL")?;
    let (host, _) = rest.split_once('/').unwrap_or((rest, ""));
    let (server, path) = url.split_at(scheme.len() + 3 + host.len());
    let client = HttpClient::new(server, None, LIMITS).map_err(|error| error.to_string())?;
    let name = host.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = name.strip_suffix(':').unwrap_or(host);
    if scheme != "https" && !["127.0.0.1", "[::1]", "localhost"].contains(&name) {
        return Err("begins with https://, unless it is on this machine".to_owned());
    }
    Ok((client, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in [
            "https://login.example/realms/shop",
            "https://login.example",
            "http://127.0.0.1:8080/realms/shop",
            "http://[::1]:8080",
            "http://localhost/a?b=c",
        ] {
            assert!(client(good).is_ok(), "{good}");
        }
        for wrong in [
            "http://login.example",
            "http://localhost.example",
            "http://127.0.0.1@login.example",
            "login.example",
            "ftp://localhost",
            "",
        ] {
            assert!(client(wrong).is_err(), "{wrong}");
        }
        let (_, path) = client("https://a.example:8/keys?p=1").unwrap();
        assert_eq!(path, "/keys?p=1");
    }
}
