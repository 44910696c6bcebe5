//! Signing in with a code that is mailed to the buyer's address.

pub mod codes;
pub mod mailer;
pub mod settings;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_domain::{Timestamp, UserId};
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_identity::{Address, Code, CodeKey, Domain, Limits};
use seckill_orderbook::{Orderbook, OrderbookError, RevokedSession};
use seckill_telemetry::settings::Secret;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::revoked::Revoked;
use codes::{Codes, Requested};
use mailer::{Mailer, Postman};
use settings::SignInSettings;

/// Why no code is on its way.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// The address is of no domain that may sign in.
    #[error("addresses of this domain cannot sign in here")]
    Domain,
    /// Too many were sent to this address.
    #[error("too many codes were sent to this address")]
    Blocked {
        /// When one will be again.
        retry_after: Duration,
    },
    /// No mail server is configured.
    #[error("SMTP_URL is not set")]
    NoMail,
    /// Too many mails wait.
    #[error("the queue of mails is full")]
    QueueFull,
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] EphemeralError),
    /// A defect, or an operating system without random numbers.
    #[error("{0}")]
    Defect(String),
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Wrong, used, too old, or tried too often: which of them is nobody's business.
    #[error("the code is not good")]
    NotGood,
    /// Redis is away.
    #[error(transparent)]
    Store(#[from] EphemeralError),
    /// PostgreSQL is away.
    #[error(transparent)]
    Users(#[from] OrderbookError),
    /// A defect.
    #[error("{0}")]
    Defect(String),
}

/// The sign-in. Cheap to clone.
#[derive(Clone)]
pub struct SignIn(Arc<Inner>);

struct Inner {
    codes: Codes,
    key: CodeKey,
    allowed_domains: Vec<Domain>,
    mailer: Option<Mailer>,
    orderbook: Orderbook,
    revoked: Revoked,
    /// Until where sign-outs of other instances are known, by the database's clock.
    known_until: Mutex<Option<Timestamp>>,
    runtime: Handle,
}

impl SignIn {
    /// Calls run on `runtime`, as those of [`crate::reads::Reads`]. The postman has to be run.
    ///
    /// # Errors
    /// When `SMTP_URL` is none.
    pub fn new(
        settings: &SignInSettings,
        secret: &Secret,
        stores: (Ephemeral, Orderbook),
        revoked: Revoked,
        runtime: Handle,
    ) -> anyhow::Result<(Self, Option<Postman>)> {
        let (mailer, postman) = settings.mail.as_ref().map(Mailer::new).transpose()?.unzip();
        let (redis, orderbook) = stores;
        let inner = Inner {
            codes: Codes::new(redis, settings.limits.clone()),
            key: CodeKey::derived_from(secret.expose()),
            allowed_domains: settings.allowed_domains.clone(),
            mailer,
            orderbook,
            revoked,
            known_until: Mutex::new(None),
            runtime,
        };
        Ok((Self(Arc::new(inner)), postman))
    }

    /// How often a code is sent.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.0.codes.limits()
    }

    /// Mails a code to an address, known or not: an address is a user once it has signed in.
    ///
    /// # Errors
    /// As [`CodeError`].
    pub async fn send_code(&self, address: Address) -> Result<(), CodeError> {
        let inner = Arc::clone(&self.0);
        let task = self
            .0
            .runtime
            .spawn(async move { inner.send_code(address).await });
        task.await
            .unwrap_or_else(|error| Err(CodeError::Defect(error.to_string())))
    }

    /// The user whose code this is. The code is used up, unless a store fails on the way.
    ///
    /// # Errors
    /// As [`ExchangeError`].
    pub async fn exchange(&self, address: Address, code: Code) -> Result<UserId, ExchangeError> {
        let inner = Arc::clone(&self.0);
        let task = self
            .0
            .runtime
            .spawn(async move { inner.exchange(&address, &code).await });
        task.await
            .unwrap_or_else(|error| Err(ExchangeError::Defect(error.to_string())))
    }

    /// Tells all instances that a session has ended.
    ///
    /// # Errors
    /// When PostgreSQL does not answer: only this instance knows it then.
    pub async fn sign_out(
        &self,
        user: UserId,
        session_id: Uuid,
        expires_at: Timestamp,
    ) -> Result<(), ExchangeError> {
        let orderbook = self.0.orderbook.clone();
        let session = RevokedSession {
            session_id,
            expires_at,
        };
        let task = self
            .0
            .runtime
            .spawn(async move { orderbook.revoke_session(session, user).await });
        match task.await {
            Ok(noted) => Ok(noted?),
            Err(error) => Err(ExchangeError::Defect(error.to_string())),
        }
    }

    /// Learns of the sign-outs on other instances.
    ///
    /// # Errors
    /// When PostgreSQL does not answer: what is known stays known.
    pub async fn learn_sign_outs(&self) -> Result<(), OrderbookError> {
        let since = *self.known_until();
        let news = self.0.orderbook.revoked_sessions(since).await?;
        self.0.revoked.learn(&news.sessions, news.as_of);
        *self.known_until() = Some(news.as_of);
        Ok(())
    }

    fn known_until(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        let known = self.0.known_until.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    async fn send_code(&self, address: Address) -> Result<(), CodeError> {
        if !address.is_of(&self.allowed_domains) {
            return Err(CodeError::Domain);
        }
        let mailer = self.mailer.as_ref().ok_or(CodeError::NoMail)?;
        // Before the code counts against the address.
        let place = mailer.place().ok_or(CodeError::QueueFull)?;
        let code = Code::random().map_err(|error| CodeError::Defect(error.to_string()))?;
        let stored = self.key.hash_code(&address, &code);
        let who = self.key.hash_address(&address);
        match self.codes.request(&who, &stored).await? {
            Requested::Send => place.send(address, code),
            Requested::Blocked(retry_after) => return Err(CodeError::Blocked { retry_after }),
        }
        Ok(())
    }

    async fn exchange(&self, address: &Address, code: &Code) -> Result<UserId, ExchangeError> {
        let who = self.key.hash_address(address);
        let stored = self.codes.take_attempt(&who).await?;
        let given = self.key.hash_code(address, code);
        if stored.is_none_or(|stored| stored != given) {
            return Err(ExchangeError::NotGood);
        }
        // First the user: a database that is away must not cost the code.
        let user = self.orderbook.user_of(address).await?;
        if self.codes.use_up(&who, &given).await? {
            Ok(user)
        } else {
            Err(ExchangeError::NotGood)
        }
    }
}
