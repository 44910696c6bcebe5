//! Signing in with a code that is mailed to the buyer's address.

pub mod api;
pub mod codes;
pub mod mailer;
mod queue;
pub mod settings;
pub mod throttle;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use seckill_domain::{Timestamp, TraceParent, UserId};
use seckill_ephemeral::{Ephemeral, EphemeralError};
use seckill_identity::{Address, CODE_DIGITS, Code, CodeKey, Domain, LONG_CODE_DIGITS, Limits};
use seckill_orderbook::{EndedSessions, Orderbook, OrderbookError, RevokedSession};
use seckill_service::settings::Secret;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::buyers::revoked::Revoked;
use crate::http::address::subscriber;
use codes::{Codes, NewCode, Requested, StoredCode, Who};
use mailer::{Mailer, Postman};
use settings::SignInSettings;
use throttle::{Act, Throttle, ThrottleError, Whose};

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
    /// Too many were asked for, by this client or by all.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Redis does not answer.
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
    /// Too many attempts, by this client or by all.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Redis does not answer.
    #[error(transparent)]
    Store(#[from] EphemeralError),
    /// PostgreSQL is away.
    #[error(transparent)]
    Users(#[from] OrderbookError),
    #[error("{0}")]
    Defect(String),
}

/// The sign-in. Cheap to clone.
#[derive(Clone)]
pub struct SignIn(Arc<Inner>);

struct Inner {
    codes: Codes,
    throttle: Throttle,
    key: CodeKey,
    allowed_domains: Vec<Domain>,
    mailbox_is_one_user: bool,
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
            codes: Codes::new(redis.clone(), settings.limits.clone()),
            throttle: Throttle::new(redis, settings.per_minute),
            key: CodeKey::derived_from(secret.expose()),
            allowed_domains: settings.allowed_domains.clone(),
            mailbox_is_one_user: settings.mailbox_is_one_user,
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

    /// Mails a code to an address, known or not: an address is a user once it has signed in. Gives the
    /// challenge that belongs to the code: who sends it back tries this one, and whoever has not got it
    /// cannot use up the attempts.
    ///
    /// # Errors
    /// As [`CodeError`].
    pub async fn send_code(
        &self,
        address: Address,
        client: Option<IpAddr>,
    ) -> Result<Uuid, CodeError> {
        let inner = Arc::clone(&self.0);
        let task = self
            .0
            .runtime
            .spawn(async move { inner.send_code(address, caller(client)).await });
        task.await
            .unwrap_or_else(|error| Err(CodeError::Defect(error.to_string())))
    }

    /// The user whose code this is. The code is used up, unless a store fails on the way.
    ///
    /// # Errors
    /// As [`ExchangeError`].
    pub async fn exchange(&self, attempt: Attempt) -> Result<UserId, ExchangeError> {
        let inner = Arc::clone(&self.0);
        let task = self
            .0
            .runtime
            .spawn(async move { inner.exchange(&attempt).await });
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
        self.note(async move { orderbook.revoke_session(session, user).await })
            .await
    }

    /// Tells all instances that all of a user's sessions have ended.
    ///
    /// # Errors
    /// As [`Self::sign_out`].
    pub async fn sign_out_everywhere(&self, ended: EndedSessions) -> Result<(), ExchangeError> {
        let orderbook = self.0.orderbook.clone();
        self.note(async move { orderbook.end_sessions(ended, None).await })
            .await
    }

    async fn note(
        &self,
        work: impl Future<Output = Result<(), OrderbookError>> + Send + 'static,
    ) -> Result<(), ExchangeError> {
        match self.0.runtime.spawn(work).await {
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
        self.0.revoked.learn(&news);
        *self.known_until() = Some(news.as_of);
        Ok(())
    }

    fn known_until(&self) -> std::sync::MutexGuard<'_, Option<Timestamp>> {
        let known = self.0.known_until.lock();
        known.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who tries a code.
#[derive(Debug)]
pub struct Attempt {
    /// Whose code it is to be.
    pub address: Address,
    /// What was mailed.
    pub code: Code,
    /// What the request for the code was answered with, where that is known.
    pub challenge: Option<Uuid>,
    /// From where it comes, if that is known.
    pub client: Option<IpAddr>,
    /// The request's trace.
    pub trace: TraceParent,
}

/// Whom limits are about; all that come from nowhere are one.
fn caller(client: Option<IpAddr>) -> IpAddr {
    client.map_or(Ipv4Addr::UNSPECIFIED.into(), subscriber)
}

impl Inner {
    fn who(&self, address: &Address, client: IpAddr) -> Who {
        Who {
            mailbox: self.key.hash_address(&address.mailbox()),
            address: self.key.hash_address(address),
            client: self.key.hash_client(client),
        }
    }

    async fn send_code(&self, address: Address, client: IpAddr) -> Result<Uuid, CodeError> {
        if !address.is_of(&self.allowed_domains) {
            return Err(CodeError::Domain);
        }
        let mailer = self.mailer.as_ref().ok_or(CodeError::NoMail)?;
        // Before the code counts against anybody.
        let place = mailer.place(client).ok_or(CodeError::QueueFull)?;
        let who = self.who(&address, client);
        let own = Whose::Client(&who.client);
        self.throttle.take(Act::Code, own).await?;
        if let Err(error) = self.throttle.take(Act::Code, Whose::All).await {
            self.throttle.give_back(Act::Code, own).await;
            return Err(error.into());
        }
        let challenge = Uuid::new_v4();
        match self.new_code(&address, &who, challenge).await? {
            Ok(code) => place.send(address, code),
            Err(retry_after) => {
                self.throttle.give_back(Act::Code, Whose::All).await;
                self.throttle.give_back(Act::Code, own).await;
                return Err(CodeError::Blocked { retry_after });
            }
        }
        Ok(challenge)
    }

    /// A code that is stored and has to be sent, or how long none is.
    async fn new_code(
        &self,
        address: &Address,
        who: &Who,
        challenge: Uuid,
    ) -> Result<Result<Code, Duration>, CodeError> {
        let random =
            |digits| Code::random(digits).map_err(|error| CodeError::Defect(error.to_string()));
        let (usual, long) = (random(CODE_DIGITS)?, random(LONG_CODE_DIGITS)?);
        let stored = NewCode {
            usual: self.key.hash_code(address, &usual),
            long: self.key.hash_code(address, &long),
        };
        let is_attacked = self.throttle.is_under_attack().await?;
        let requested = self.codes.request(who, challenge, &stored, is_attacked);
        Ok(match requested.await? {
            Requested::Send { is_long: true } => Ok(long),
            Requested::Send { is_long: false } => Ok(usual),
            Requested::Blocked(retry_after) => Err(retry_after),
        })
    }

    async fn exchange(&self, attempt: &Attempt) -> Result<UserId, ExchangeError> {
        let address = &attempt.address;
        let who = self.who(address, caller(attempt.client));
        let own = Whose::Client(&who.client);
        self.throttle.take(Act::Attempt, own).await?;
        let stored = self.stored_code(&who, attempt.challenge).await?;
        let stored = stored.ok_or(ExchangeError::NotGood)?;
        if stored.hash != self.key.hash_code(address, &attempt.code) {
            self.throttle.note_failure().await?;
            return Err(ExchangeError::NotGood);
        }
        // First the user: a database that is away must not cost the code.
        let user = self.orderbook.user_of(address, self.mailbox_is_one_user);
        let user = user.await?;
        let noted = self
            .orderbook
            .note_sign_in(user, attempt.client, attempt.trace);
        noted.await?;
        if self.codes.use_up(&who, &stored).await? {
            Ok(user)
        } else {
            Err(ExchangeError::NotGood)
        }
    }

    /// The code that is tried, with one attempt at it taken. Who has not got its challenge tries the newest,
    /// and shares attempts with all others who have not.
    async fn stored_code(
        &self,
        who: &Who,
        challenge: Option<Uuid>,
    ) -> Result<Option<StoredCode>, ExchangeError> {
        if challenge.is_some()
            && let Some(stored) = self.codes.take_attempt(who, challenge).await?
        {
            return Ok(Some(stored));
        }
        self.throttle.take(Act::Attempt, Whose::All).await?;
        Ok(self.codes.take_attempt(who, None).await?)
    }
}
