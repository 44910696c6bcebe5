//! The settings of a session, directly and through a pooler.
//!
//! A pooler gives one session of the server to many clients, one transaction or one client after the other. It
//! refuses or ignores settings at the start. Settings that are made later, and statements that are prepared by
//! name, may be missing in the next transaction, or belong to another client. So the settings are sent at the
//! start, with a marker among them. A client that finds the marker has a session of its own. A client that does
//! not find it sends all settings in each transaction, prepares nothing by name, and sends no statement outside a
//! transaction. That works with every pooler, and costs three more round trips in each transaction.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Executor, Row};
use uuid::Uuid;

/// PostgreSQL keeps any setting whose name has a dot.
const MARK: &str = "seckill.session";
/// A pooler that refuses a setting at the start: `protocol_violation`.
const REFUSED_AT_START: &str = "08P01";
/// Only for a session of its own. A statement outside a transaction sees what others have committed, whatever
/// the database's default is. And the server notices within 15 seconds that a client has disappeared, and
/// releases its locks.
const OWN: [(&str, &str); 5] = [
    ("default_transaction_isolation", "read committed"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_keepalives_count", "4"),
    ("tcp_user_timeout", "12000"),
];

/// How to connect, and the settings of a session.
#[derive(Clone)]
pub(crate) struct Session {
    connect: PgConnectOptions,
    settings: Vec<(&'static str, String)>,
}

/// Without the connection options: they contain a password.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(crate) fn new(connect: PgConnectOptions, settings: Vec<(&'static str, String)>) -> Self {
        // sqlx would send a setting for these digits, which a pooler refuses.
        let connect = connect.extra_float_digits(None);
        Self { connect, settings }
    }

    /// The application name, which PostgreSQL's administrators see.
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

    /// Begins a transaction by `begin`, with the settings that the session could not have.
    pub(crate) fn begins(&self, begin: &str) -> String {
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
        std::iter::once(begin.to_owned()).chain(settings).collect()
    }

    /// A connection with a session of its own; none if there is a pooler in between.
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

    /// A connection that may share its session with other clients.
    pub(crate) async fn connect_plainly(&self) -> Result<PgConnection, sqlx::Error> {
        self.connect.connect().await
    }
}

/// A value, escaped as the server's options need it.
fn at_start(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

fn is_refused_at_start(error: &sqlx::Error) -> bool {
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == REFUSED_AT_START)
}
