//! What can go wrong between a caller and Redis.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::redis::script::MAX_ITEMS;

/// Why a call has no answer. An answer of the scripts, also that a sale is not served, is not an error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StockError {
    /// Redis cannot be reached, is not a master, is loading its data, or refuses writes. Nothing was changed, or it is
    /// not known whether something was. Try again with the same ids.
    #[error("Redis is unavailable")]
    Unavailable(#[source] RedisError),
    /// No answer in time. The call may have been executed, or may still be executed later. Try again with the same
    /// ids.
    #[error("Redis did not answer in time")]
    Timeout,
    /// The server or its address is not what these scripts need; retrying will not help.
    #[error("Redis is misconfigured: {0}")]
    Misconfigured(String),
    /// Redis does not understand a call, or its answer is not understood: a defect.
    #[error("Redis protocol: {0}")]
    Protocol(String),
}

impl StockError {
    /// Whether the error stays until somebody changes the server or its address.
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
            // The script itself has failed: its data or its arguments are not what it expects.
            ErrorKind::Server(ServerErrorKind::ResponseError)
            | ErrorKind::UnexpectedReturnType
            | ErrorKind::Parse => Self::Protocol(error.to_string()),
            // Codes that the client doesn't know come as `Extension`: NOREPLICAS, OOM, MISCONF, BUSY.
            _ => Self::Unavailable(error),
        }
    }
}

/// What follows from an error for the connection on which it occurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// The connection is broken, the server is not (or no longer) a master with these scripts, or answers are so late
    /// that a new connection is safer.
    Replace,
    /// The server may no longer be the right one: it was cut off, or another server has the slot.
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
