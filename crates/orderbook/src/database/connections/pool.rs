//! A few connections for many callers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryFutureExt, TryStreamExt};
use sqlx::postgres::{PgConnection, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Connection as _, Describe, Either, Execute, Executor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Connection, ON_THE_WAY, Transaction, gave_up};
use super::session::Session;
use crate::metrics;

/// A connection that has answered less than this ago is used without a check.
const JUST_HEARD: Duration = Duration::from_millis(200);
/// Between two attempts to connect to a server that does not run yet.
const CONNECT_AGAIN: Duration = Duration::from_millis(100);
/// Between two checks of idle connections.
const UPKEEP: Duration = Duration::from_secs(1);
/// A connection that was not used for this long is closed.
const NOT_NEEDED: Duration = Duration::from_secs(600);

/// The isolation level, whatever the database's default is: a transaction of the fold, of an exchange or of a
/// reconciliation has to see what others have committed meanwhile.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The options of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolOptions {
    pub(crate) max_connections: u32,
    pub(crate) holds_connections: bool,
    pub(crate) acquire_timeout: Duration,
    pub(crate) statement_timeout: Duration,
}

/// A pool of connections. Cheap to clone; clones share one pool.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    session: Session,
    options: PoolOptions,
    /// The permits: one for each connection in use.
    permits: Arc<Semaphore>,
    resting: Mutex<Resting>,
    /// A pooler is in between: see [`super::session`].
    shares_sessions: AtomicBool,
}

#[derive(Debug, Default)]
struct Resting {
    /// Idle connections; the one that was used last is the last.
    connections: Vec<Rested>,
    /// Connections that last answered before this moment have probably stopped answering as well.
    mute_since: Option<Instant>,
}

#[derive(Debug)]
struct Rested {
    raw: PgConnection,
    made: Instant,
    answered: Instant,
}

impl Pool {
    /// Connects when it is asked to. Has to be called in a Tokio runtime.
    pub(crate) fn new(session: Session, options: PoolOptions) -> Self {
        let pool = Self(Arc::new(Inner {
            session,
            permits: Arc::new(Semaphore::new(options.max_connections as usize)),
            options,
            resting: Mutex::default(),
            shares_sessions: AtomicBool::new(false),
        }));
        tokio::spawn(upkeep(Arc::downgrade(&pool.0)));
        pool
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(crate) fn options(&self) -> PoolOptions {
        self.0.options
    }

    /// From a statement to its answer.
    pub(super) fn answer_within(&self) -> Duration {
        self.0.options.statement_timeout + ON_THE_WAY
    }

    pub(super) fn shares_sessions(&self) -> bool {
        self.0.shares_sessions.load(Ordering::Relaxed)
    }

    pub(crate) async fn begin(&self) -> Result<Transaction, sqlx::Error> {
        self.begin_with(BEGIN).await
    }

    /// Begins by a string that begins with BEGIN.
    pub(crate) async fn begin_with(&self, begin: &str) -> Result<Transaction, sqlx::Error> {
        Transaction::begin(self.acquire().await?, begin).await
    }

    /// A connection for one statement; [`Connection::end`] it by COMMIT.
    async fn for_one(&self) -> Result<Connection, sqlx::Error> {
        let mut connection = self.acquire().await?;
        if self.shares_sessions() {
            connection.begin(BEGIN).await?;
        }
        Ok(connection)
    }

    async fn acquire(&self) -> Result<Connection, sqlx::Error> {
        let deadline = Instant::now() + self.0.options.acquire_timeout;
        let permit = Arc::clone(&self.0.permits).acquire_owned();
        let permit = match tokio::time::timeout_at(deadline, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        let raw = match self.rested().await {
            Some(rested) => rested,
            None => (self.connect(deadline).await?, Instant::now()),
        };
        Ok(Connection::new(raw, permit, self.clone()))
    }

    /// An idle connection that still answers.
    async fn rested(&self) -> Option<(PgConnection, Instant)> {
        let answer_within = self.0.options.acquire_timeout / 2;
        loop {
            let mut rested = self.lock().connections.pop()?;
            if rested.answered.elapsed() < JUST_HEARD {
                return Some((rested.raw, rested.made));
            }
            let asked = Instant::now();
            match timeout(answer_within, rested.raw.ping()).await {
                Ok(Ok(())) => return Some((rested.raw, rested.made)),
                Ok(Err(_)) => {}
                Err(_) => self.is_mute_since(asked),
            }
        }
    }

    /// Closes the connections that last answered before this moment: checking each would take too long.
    pub(super) fn is_mute_since(&self, asked: Instant) {
        let mut resting = self.lock();
        resting.mute_since = resting.mute_since.max(Some(asked));
        resting
            .connections
            .retain(|rested| rested.answered >= asked);
    }

    /// Tries again until the deadline while the server does not run, and returns the last error.
    async fn connect(&self, deadline: Instant) -> Result<PgConnection, sqlx::Error> {
        loop {
            let connected = tokio::time::timeout_at(deadline, self.connect_once());
            match connected.await {
                Ok(Err(error)) if may_pass(&error) && Instant::now() + CONNECT_AGAIN < deadline => {
                    sleep(CONNECT_AGAIN).await;
                }
                Ok(connected) => return connected,
                Err(_) => {
                    let waited = self.0.options.acquire_timeout.as_secs();
                    return Err(gave_up(format!(
                        "PostgreSQL takes no connection for {waited} s"
                    )));
                }
            }
        }
    }

    async fn connect_once(&self) -> Result<PgConnection, sqlx::Error> {
        if !self.shares_sessions() {
            if let Some(connection) = self.0.session.connect_directly().await? {
                return Ok(connection);
            }
            self.0.shares_sessions.store(true, Ordering::Relaxed);
        }
        self.0.session.connect_plainly().await
    }

    /// Takes a connection back of which no answer is missing.
    pub(super) fn rest(
        &self,
        (raw, made): (PgConnection, Instant),
        answered: Instant,
        permit: OwnedSemaphorePermit,
    ) {
        let mut resting = self.lock();
        let is_mute = resting.mute_since.is_some_and(|since| answered < since);
        if !is_mute && !self.0.permits.is_closed() {
            resting.connections.push(Rested {
                raw,
                made,
                answered,
            });
        }
        // The permit is released after this, so that its next owner finds the connection.
        drop(permit);
    }

    /// Closes the connections after the calls under way, and waits for those no longer than for an answer.
    pub(crate) async fn close(&self) {
        let all = self.0.permits.acquire_many(self.0.options.max_connections);
        // Connections that are not given back in time are not waited for.
        let ended = timeout(self.answer_within(), all).await;
        self.0.permits.close();
        drop(ended);
        let rested = std::mem::take(&mut self.lock().connections);
        for Rested { raw, .. } in rested {
            // A server that does not read the closing message notices the closed connection.
            let _ = timeout(ON_THE_WAY, raw.close()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Resting> {
        self.0
            .resting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn measure(&self) {
        let resting = self.lock().connections.len();
        let (most, free) = (
            self.0.options.max_connections,
            self.0.permits.available_permits(),
        );
        let in_use = (most as usize).saturating_sub(free);
        let pool = || [self.0.session.name()];
        metrics::CONNECTIONS
            .with(pool())
            .set((resting + in_use) as f64);
        metrics::CONNECTIONS_IN_USE.with(pool()).set(in_use as f64);
        metrics::CONNECTIONS_MAX.with(pool()).set(f64::from(most));
    }

    /// One more connection for those who hold theirs; whether more are missing.
    async fn hold_one_more(&self) -> bool {
        let Ok(permit) = Arc::clone(&self.0.permits).try_acquire_owned() else {
            return false;
        };
        // Each free permit but this one is for one that rests.
        if self.lock().connections.len() > self.0.permits.available_permits() {
            return false;
        }
        let deadline = Instant::now() + self.0.options.acquire_timeout;
        match self.connect(deadline).await {
            Ok(raw) => self.rest((raw, Instant::now()), Instant::now(), permit),
            Err(_) => return false,
        }
        true
    }
}

/// Runs until the last clone is dropped.
async fn upkeep(pool: Weak<Inner>) {
    while let Some(inner) = pool.upgrade() {
        let pool = Pool(inner);
        if pool.0.permits.is_closed() {
            return;
        }
        pool.measure();
        if pool.0.options.holds_connections {
            while pool.hold_one_more().await {}
        } else {
            let mut resting = pool.lock();
            resting
                .connections
                .retain(|rested| rested.answered.elapsed() < NOT_NEEDED);
        }
        drop(pool);
        sleep(UPKEEP).await;
    }
}

/// The server does not run, or has no free connection: a later attempt may succeed.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        // `too_many_connections` and `cannot_connect_now`.
        other => {
            let code = other
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            code.is_some_and(|code| code == "53300" || code == "57P03")
        }
    }
}

impl<'p> Executor<'p> for &'p Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let answer = async move {
            let mut connection = self.for_one().await?;
            let parts: Vec<_> = connection.fetch_many(query).try_collect().await?;
            connection.end("COMMIT").await?;
            Ok(stream::iter(parts).map(Ok))
        };
        answer.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut connection = self.for_one().await?;
            let row = connection.fetch_optional(query).await?;
            connection.end("COMMIT").await?;
            Ok(row)
        })
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.for_one().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e, 'q: 'e>(
        self,
        sql: &'q str,
    ) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.for_one().await?.describe(sql).await })
    }
}
