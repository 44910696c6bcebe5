//! One connection, and a transaction on it. Every statement has a deadline.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryFutureExt, TryStreamExt};
use sqlx::error::BoxDynError;
use sqlx::postgres::{
    PgArguments, PgConnection, PgDatabaseError, PgQueryResult, PgRow, PgSeverity, PgStatement,
    PgTypeInfo, Postgres,
};
use sqlx::{Describe, Either, Execute, Executor};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use super::pool::Pool;

/// Added to the time that the server gives a statement, so that its answer at the end of it can arrive.
pub(super) const ON_THE_WAY: Duration = Duration::from_secs(2);

/// What happens to a connection that is not needed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It can be used again.
    Clean,
    /// It can be used again after a ROLLBACK.
    InTransaction,
    /// An answer is still missing: it must not be used again.
    Asked,
}

/// A connection of the pool. When it is dropped it goes back there, unless an answer is missing.
pub(crate) struct Connection {
    /// None only while it is being dropped.
    raw: Option<(PgConnection, OwnedSemaphorePermit)>,
    pool: Pool,
    made: Instant,
    /// When it was last asked something.
    asked: Instant,
    answer_within: Duration,
    state: State,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// A statement. It is not prepared by name where another client may use the same name.
struct Asking<E> {
    query: E,
    by_name: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Asking<E> {
    fn sql(&self) -> &'q str {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement<'q>> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.by_name && self.query.persistent()
    }
}

type Answer<T> = Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>;

impl Connection {
    pub(super) fn new(
        (raw, made): (PgConnection, Instant),
        permit: OwnedSemaphorePermit,
        pool: Pool,
    ) -> Self {
        Self {
            raw: Some((raw, permit)),
            answer_within: pool.answer_within(),
            pool,
            made,
            asked: Instant::now(),
            state: State::Clean,
        }
    }

    /// The connection. From now on an answer is missing.
    fn ask(&mut self) -> Result<(&mut PgConnection, Duration, State), sqlx::Error> {
        let before = std::mem::replace(&mut self.state, State::Asked);
        self.asked = Instant::now();
        match (&mut self.raw, before) {
            (Some((raw, _)), State::Clean | State::InTransaction) => {
                Ok((raw, self.answer_within, before))
            }
            _ => Err(gave_up(
                "an earlier statement of this connection was not answered".into(),
            )),
        }
    }

    /// Records the result. The connection has the state `before` again, unless there was no answer.
    fn heard<T>(&mut self, answer: Answer<T>, before: State) -> Result<T, sqlx::Error> {
        match answer {
            Ok(Ok(value)) => {
                self.state = before;
                Ok(value)
            }
            Ok(Err(error)) => {
                if is_answer(&error) {
                    self.state = before;
                }
                Err(error)
            }
            Err(_) => {
                self.pool.is_mute_since(self.asked);
                let waited = self.answer_within.as_secs();
                Err(gave_up(format!(
                    "PostgreSQL has not answered for {waited} s"
                )))
            }
        }
    }

    /// Begins a transaction, by `begin` and settings in the same string.
    pub(super) async fn begin(&mut self, begin: &str) -> Result<(), sqlx::Error> {
        let sql = if self.pool.shares_sessions() {
            self.pool.session().begins(begin)
        } else {
            begin.to_owned()
        };
        let begun = self.tell(&sql).await;
        // The transaction may have begun even if a setting was refused.
        self.state = match begun {
            Ok(()) => State::InTransaction,
            Err(_) => State::Asked,
        };
        begun
    }

    /// Ends the transaction by COMMIT or ROLLBACK, if there is one.
    pub(super) async fn end(&mut self, how: &str) -> Result<(), sqlx::Error> {
        if self.state == State::InTransaction {
            self.tell(how).await?;
            self.state = State::Clean;
        }
        Ok(())
    }

    /// Statements without parameters and without rows.
    fn tell<'a>(&'a mut self, sql: &'a str) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(self.execute(sql).map_ok(drop))
    }
}

/// PostgreSQL's `read_only_sql_transaction`.
const READ_ONLY: &str = "25006";

/// Whether the server has refused the statement and the connection can be used again. After other errors more answers
/// may come. And a session that may not write stays so, although a new one may: the server was a standby, or read-only,
/// when it began.
fn is_answer(error: &sqlx::Error) -> bool {
    let refusal = error.as_database_error();
    let refusal = refusal.and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    refusal.is_some_and(|error| {
        let ends = matches!(error.severity(), PgSeverity::Fatal | PgSeverity::Panic);
        !ends && error.code() != READ_ONLY
    })
}

pub(super) fn gave_up(why: String) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, why))
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((raw, permit)) = self.raw.take() else {
            return;
        };
        let rested = (raw, self.made);
        match self.state {
            State::Clean => self.pool.rest(rested, self.asked, permit),
            // It is closed, and the server ends what is still running.
            State::Asked => {}
            State::InTransaction => {
                let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                    return;
                };
                let mut connection = Self::new(rested, permit, self.pool.clone());
                connection.answer_within = ON_THE_WAY;
                // A runtime that ends drops its tasks: do not roll back a second time.
                connection.state = State::Asked;
                runtime.spawn(async move {
                    connection.state = State::InTransaction;
                    connection.end("ROLLBACK").await
                });
            }
        }
    }
}

impl<'c> Executor<'c> for &'c mut Connection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let by_name = !self.pool.shares_sessions();
        let answer = async move {
            let (raw, within, before) = self.ask()?;
            let parts = raw.fetch_many(Asking { query, by_name });
            let answer = timeout(within, parts.try_collect::<Vec<_>>()).await;
            let parts = self.heard(answer, before)?;
            Ok(stream::iter(parts).map(Ok))
        };
        answer.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let by_name = !self.pool.shares_sessions();
        Box::pin(async move {
            let (raw, within, before) = self.ask()?;
            let answer = timeout(within, raw.fetch_optional(Asking { query, by_name })).await;
            self.heard(answer, before)
        })
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (raw, within, before) = self.ask()?;
            let answer = timeout(within, raw.prepare_with(sql, parameters)).await;
            self.heard(answer, before)
        })
    }

    fn describe<'e, 'q: 'e>(
        self,
        sql: &'q str,
    ) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move {
            let (raw, within, before) = self.ask()?;
            let answer = timeout(within, raw.describe(sql)).await;
            self.heard(answer, before)
        })
    }
}

/// A connection in a transaction. When it is dropped, the transaction is rolled back.
#[derive(Debug)]
pub(crate) struct Transaction(Connection);

impl Transaction {
    pub(super) async fn begin(
        mut connection: Connection,
        begin: &str,
    ) -> Result<Self, sqlx::Error> {
        connection.begin(begin).await?;
        Ok(Self(connection))
    }

    /// Sets the time limit of each of its further statements.
    pub(crate) async fn takes_up_to(&mut self, time: Duration) -> Result<(), sqlx::Error> {
        let sql = format!("SET LOCAL statement_timeout = {}", time.as_millis());
        self.0.tell(&sql).await?;
        self.0.answer_within = time + ON_THE_WAY;
        Ok(())
    }

    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.0.end("COMMIT").await
    }

    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        self.0.end("ROLLBACK").await
    }
}

impl Deref for Transaction {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}
