//! Why a command has failed, and the exit code.

use std::process::ExitCode;

use seckill_service::settings::SettingsError;

/// The error of a command. Its text is for the operator and says what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A setting is missing or cannot be used; nothing was done.
    #[error("{0}")]
    Settings(#[from] SettingsError),
    /// An argument is missing or does not fit the others; nothing was done.
    #[error("{0}")]
    Usage(String),
    /// The command could be carried out, but must not be, or nobody confirmed it; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// What the arguments name does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The reader of standard output has closed it, as `head` does.
    #[error("nobody reads standard output")]
    NobodyReads,
    /// Anything else.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    /// 0 if standard output was closed, 1 failed, 2 settings and arguments (clap uses the same code), 3 not found,
    /// 4 refused.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::NobodyReads => 0,
            Self::Failed(_) => 1,
            Self::Settings(_) | Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Refused(_) => 4,
        })
    }
}
