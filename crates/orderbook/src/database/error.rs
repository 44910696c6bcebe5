//! Errors, distinguished by what the caller has to do.

use seckill_domain::Offset;

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum OrderbookError {
    /// The database did not answer, or with an error: retry with a delay.
    #[error("the database failed, try again: {0}")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("cannot migrate the database, see its log and the migrations table: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A migration that this program needs was not made.
    #[error("the database has not got migration {version}: run `seckillctl db migrate`")]
    SchemaBehind {
        /// The first of those that are missing.
        version: i64,
    },
    /// This role may not see which migrations were made.
    #[error("this role may not read _sqlx_migrations: run ops/postgres/roles.sql again")]
    SchemaHidden,
    /// A row that this program does not write. Another program wrote it, or a newer version.
    #[error("table {table} has a {column} that no fold writes: look for writes by hand")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
    },
    /// All 2^40 - 1 voucher ids are given out.
    #[error("no voucher id is left")]
    NoVoucherIdLeft,
}

/// Why a batch was not applied. Except for [`Self::Unknown`], nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The fold has another position than the caller expects: another projector has moved it.
    #[error("the fold stands at {}: continue there, if the partition is still ours", actual.get())]
    PositionMoved {
        /// The position of the fold.
        actual: Offset,
    },
    /// The fold has missed an operator's decision, to skip a record or to accept another log: ask for all of
    /// them, and try again if the log is still the same.
    #[error(
        "an operator has decided about a record ahead of the fold, or about its log: ask again"
    )]
    DecisionMissed,
    /// The batch has a record of a schema that this version does not know.
    #[error(
        "the record at {} cannot be read by this version ({cause}): roll out one that can, or decide \
         with `seckillctl dlq skip` that it is passed over", offset.get()
    )]
    NotKnownYet {
        /// Where the record stands.
        offset: Offset,
        /// What is unknown.
        cause: String,
    },
    /// An operator's command to skip a record was begun and is not carried out.
    #[error(
        "the decision to skip the record at {} was begun and is not in the log: repeat \
         `seckillctl dlq skip`", offset.get()
    )]
    SkipPending {
        /// Where the record stands.
        offset: Offset,
    },
    /// The data of at least one event cannot be stored: bisect the batch to find it. The view is wrong,
    /// not the event.
    #[error("the database refuses the data ({sqlstate}): {message}")]
    Refused {
        /// SQLSTATE, of class 22 or 23.
        sqlstate: String,
        /// The database's message.
        message: String,
    },
    /// The connection broke during COMMIT: read the position again, it shows whether the batch was applied.
    #[error("unknown whether the batch was committed, read the position again: {0}")]
    Unknown(#[source] sqlx::Error),
    /// The database did not answer: try the same batch again with a delay.
    #[error(transparent)]
    Unavailable(OrderbookError),
}

impl ApplyError {
    /// SQLSTATE of a parameter that is too large for the database's type.
    pub(crate) const OUT_OF_RANGE: &str = "22003";
    /// SQLSTATE of a parameter whose value is invalid.
    pub(crate) const INVALID_VALUE: &str = "22023";

    /// Of an error in COMMIT itself.
    pub(crate) fn of_commit(error: sqlx::Error) -> Self {
        match Self::from(error) {
            Self::Unavailable(OrderbookError::Database(error)) if !rolled_back(&error) => {
                Self::Unknown(error)
            }
            known => known,
        }
    }
}

/// Class 40: the database reports that it rolled the transaction back.
fn rolled_back(error: &sqlx::Error) -> bool {
    sqlstate(error).is_some_and(|code| code.starts_with("40"))
}

pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    let code = error.as_database_error()?.code()?;
    Some(code.into_owned())
}

impl From<sqlx::Error> for ApplyError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Encode(_) => Some(Self::OUT_OF_RANGE.to_owned()),
            other => sqlstate(other),
        };
        match code {
            Some(sqlstate) if sqlstate.starts_with("22") || sqlstate.starts_with("23") => {
                Self::Refused {
                    sqlstate,
                    message: error.to_string(),
                }
            }
            _ => Self::Unavailable(error.into()),
        }
    }
}

impl From<OrderbookError> for ApplyError {
    fn from(error: OrderbookError) -> Self {
        match error {
            OrderbookError::Database(error) => error.into(),
            other => Self::Unavailable(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_unknown_in_commit_and_unavailable_before() {
        let broken = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        let (commit, before) = (ApplyError::of_commit(broken()), ApplyError::from(broken()));
        assert!(matches!(commit, ApplyError::Unknown(_)), "{commit}");
        assert!(matches!(before, ApplyError::Unavailable(_)), "{before}");
    }
}
