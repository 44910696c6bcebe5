//! What can go wrong between a caller and Redis.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::redis::script::MAX_ITEMS;

/// Why a call has no answer. What a sale itself answers, also that it is not served, is not an error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StockError {
    /// Redis is away, not a master, loading, or refuses writes: nothing was changed, or it is not
    /// known whether it was. Try again with the same ids.
    #[error("Redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// No answer in time. The call may have been executed, or may still be: ask again with the same ids.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The server or its address is not what these scripts need; retrying will not help.
    #[error("Redis is misconfigured: {0}")]
    Misconfigured(String),
    /// A call or an answer that one of the two sides does not understand: a defect.
    #[error("Redis protocol: {0}")]
    Protocol(String),
}

impl StockError {
    /// Whether it stays until somebody changes the server or its address.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::Misconfigured(_))
    }

    pub(crate) fn too_many(what: &str) -> Self {
        Self::Protocol(format!("more than {MAX_ITEMS} {what} in one call"))
    }
}

impl From<RedisError> for StockError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        match error.kind() {
            ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => {
                Self::Misconfigured(error.to_string())
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Misconfigured(error.to_string()),
            // What a script raises itself: its data or its arguments are not what it expects.
            ErrorKind::Server(ServerErrorKind::ResponseError)
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Parse => Self::Protocol(error.to_string()),
            // Codes that the client doesn't know come as `Extension`: NOREPLICAS, OOM, MISCONF, BUSY.
            _ => Self::Unavailable(error),
        }
    }
}

/// What an error says of the connection that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// It is broken, the server is not (or no longer) a master with these scripts, or answers are
    /// so late that a new one is safer.
    Replace,
    /// The server may be the wrong one by now: it has been cut off, or another has the slot.
    LocateAnew,
}

/// See [`Verdict`].
pub(crate) fn verdict(error: &RedisError) -> Verdict {
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::ReadOnly
            | ServerErrorKind::NoScript
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown => Verdict::Replace,
            ServerErrorKind::Moved | ServerErrorKind::ClusterDown => Verdict::LocateAnew,
            _ => Verdict::Keep,
        },
        ErrorKind::Extension if error.code() == Some("NOREPLICAS") => Verdict::LocateAnew,
        ErrorKind::Extension | ErrorKind::UnexpectedReturnType => Verdict::Keep,
        _ => Verdict::Replace,
    }
}
