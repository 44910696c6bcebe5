//! An identity provider (OpenID Connect): where it publishes its keys is asked of it, and the keys are remembered.

mod settings;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use seckill_credentials::issued::{Claims, Keys, NotGood};
use seckill_http_client::{Fetcher, Limits};
use seckill_metrics::Gauge;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::Instant;

pub use self::settings::IssuerSettings;
use crate::metrics;

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(3),
    answer_bytes: 256 * 1024,
};
/// Keys that the provider has taken back are good for so long.
const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// However many tokens name keys that nobody knows, the provider is asked once in this time.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

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
    fetcher: Fetcher,
    runtime: Handle,
    keys: RwLock<Arc<Keys>>,
    /// Whoever asks the provider holds it.
    asking: Mutex<()>,
    last: RwLock<Option<Asked>>,
    away_seconds: Gauge,
}

/// When the provider was asked, and why that failed.
#[derive(Clone)]
struct Asked {
    at: Instant,
    answer: Result<(), String>,
    /// Since when it has not given its keys.
    away_since: Option<Instant>,
}

impl Issuer {
    /// Asks nobody yet; what is asked later is asked on `runtime`. `who` says in metrics whom it names.
    ///
    /// # Errors
    /// When there can be no TLS.
    pub fn new(
        settings: IssuerSettings,
        who: &'static str,
        runtime: Handle,
    ) -> Result<Self, String> {
        let away_seconds = metrics::IDENTITY_PROVIDER_AWAY_SECONDS.with([who]);
        away_seconds.set(0.0);
        Ok(Self(Arc::new(Inner {
            settings,
            fetcher: Fetcher::new(LIMITS)?,
            runtime,
            keys: RwLock::default(),
            asking: Mutex::new(()),
            last: RwLock::new(None),
            away_seconds,
        })))
    }

    /// Whose tokens are checked.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.settings.issuer
    }

    /// The keys that count now. A token that was good under them is checked again when they are others.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.0.keys()
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
            if self.0.is_to_be_asked()
                && let Err(why) = self.0.ask().await
            {
                let issuer = &self.0.settings.issuer;
                tracing::warn!(issuer, why, "the identity provider did not give its keys");
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

impl Inner {
    fn keys(&self) -> Arc<Keys> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&keys)
    }

    fn check(&self, token: &str) -> Result<Claims, NotGood> {
        let IssuerSettings { issuer, audience } = &self.settings;
        self.keys().check(token, issuer, audience)
    }

    /// Who comes while somebody asks waits for that answer; but while the provider is away, nobody waits beside the one who asks.
    async fn ask(&self) -> Result<(), String> {
        let _asking = match (self.asking.try_lock(), self.last()) {
            (Ok(asking), _) => asking,
            (Err(_), Some(Asked { answer, .. })) if answer.is_err() => return answer,
            (Err(_), _) => self.asking.lock().await,
        };
        let last = self.last();
        if let Some(Asked { at, answer, .. }) = &last
            && at.elapsed() < ASK_AGAIN_AFTER
        {
            return answer.clone();
        }
        let began = Instant::now();
        let answer = self.fetch().await.map(|keys| {
            *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        });
        let away_since = answer
            .is_err()
            .then(|| last.and_then(|last| last.away_since).unwrap_or(began));
        let away = away_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.away_seconds.set(away.as_secs_f64());
        let asked = Asked {
            at: Instant::now(),
            answer: answer.clone(),
            away_since,
        };
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        answer
    }

    /// A token of a key that is not known may have found out that it is away, or there again, long before its time.
    fn is_to_be_asked(&self) -> bool {
        self.last().is_none_or(|Asked { at, answer, .. }| {
            answer.is_err() || at.elapsed() + ASK_AGAIN_AFTER > REFRESH_EVERY
        })
    }

    fn last(&self) -> Option<Asked> {
        let last = self.last.read().unwrap_or_else(PoisonError::into_inner);
        last.clone()
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let issuer = &self.settings.issuer;
        let known = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let found: Value = serde_json::from_slice(&self.fetcher.get(&known).await?)
            .map_err(|error| format!("{known} is no JSON: {error}"))?;
        // Otherwise one provider could speak for another.
        if found["issuer"] != issuer.as_str() {
            return Err(format!("{known} is of the issuer {}", found["issuer"]));
        }
        let keys = found["jwks_uri"].as_str();
        let keys = keys.ok_or_else(|| format!("{known} names no jwks_uri"))?;
        Keys::read(&self.fetcher.get(keys).await?).map_err(|why| format!("{keys} {why}"))
    }
}
