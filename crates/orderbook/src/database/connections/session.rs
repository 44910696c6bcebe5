//! What a session is set to, directly and through a pooler.
//!
//! A pooler hands one session of the server to many clients, one transaction after the other or one client
//! after the other. It refuses settings at the start, or drops them, and what is set later or prepared by
//! name may be gone, or somebody else's, in the next transaction. So settings are asked for at the start,
//! with a mark among them: who finds the mark has a session of its own. Who does not sets everything anew
//! in each transaction, prepares nothing by name, and sends no statement outside a transaction. That works
//! through every pooler, and takes three more ways to the server a transaction.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, Row};
use uuid::Uuid;

/// PostgreSQL keeps any setting whose name has a dot.
const MARK: &str = "seckill.session";
/// A pooler that refuses a setting at the start: `protocol_violation`.
const REFUSED_AT_START: &str = "08P01";
/// Of a session of its own only. A statement outside a transaction sees what others have committed, whatever
/// the database's default is. And the server finds out within a quarter of a minute that a client is gone
/// without a word, and lets go of what that held.
const OWN: [(&str, &str); 5] = [
    ("default_transaction_isolation", "read committed"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "4"),
    ("tcp_user_timeout", "12000"),
];

/// How to connect, and what a session is set to.
#[derive(Clone)]
pub(crate) struct Session {
    connect: PgConnectOptions,
    settings: Vec<(&'static str, String)>,
}

/// Without how to connect: that has a password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(connect: PgConnectOptions, settings: Vec<(&'static str, String)>) -> Self {
        // sqlx's own default for these digits is one more setting that a pooler refuses.
        let connect = connect.extra_float_digits(None);
        Self { connect, settings }
    }

    /// What PostgreSQL's administrators see it called.
    pub(super) fn name(&self) -> String {
        self.connect
            .get_application_name()
            .unwrap_or_default()
            .to_owned()
    }

    /// The same, with more settings.
    pub(crate) fn with(&self, more: &[(&'static str, &str)]) -> Self {
        let more = more
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()));
        Self {
            connect: self.connect.clone(),
            settings: self.settings.iter().cloned().chain(more).collect(),
        }
    }

    /// Begins a transaction by `begin`, and sets it to what the session could not be set to.
    pub(crate) fn begins(&self, begin: &str) -> String {
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
        std::iter::once(begin.to_owned()).chain(settings).collect()
    }

    /// A connection with a session of its own; none where there is a pooler in between.
    pub(crate) async fn connect_directly(&self) -> Result<Option<PgConnection>, sqlx::Error> {
        let mark = Uuid::new_v4().simple().to_string();
        let settings = self.settings.iter().map(|(name, value)| (*name, &**value));
        let settings = settings.chain(OWN).chain([(MARK, &*mark)]);
        let settings = settings.map(|(name, value)| (name, at_start(value)));
        let mut connection = match self.connect.clone().options(settings).connect().await {
            Ok(connection) => connection,
            Err(error) if is_refused_at_start(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let sql = format!("SELECT current_setting('{MARK}', true)");
        let found = connection.fetch_one(&*sql).await?;
        let found: Option<String> = found.try_get(0)?;
        Ok((found.as_ref() == Some(&mark)).then_some(connection))
    }

    /// A connection that promises nothing about its session.
    pub(crate) async fn connect_plainly(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect.connect().await
    }
}

/// As the server wants a value among its options.
fn at_start(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

fn is_refused_at_start(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == REFUSED_AT_START)
}
