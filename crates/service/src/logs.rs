//! Structured logs on standard output.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

use crate::settings::Reader;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for programs.
    Json,
    /// For people.
    Text,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err("it is json or text"),
        }
    }
}

impl std::fmt::Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json => "json",
            Self::Text => "text",
        })
    }
}

/// Which log lines are written, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// `RUST_LOG`.
    pub filter: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

impl LogSettings {
    /// Reads and checks both. None: `reader` knows what is wrong.
    pub fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let filter = reader.or("RUST_LOG", "info".to_owned());
        let filter = reader.accept("RUST_LOG", filter, |filter| check_filter(filter));
        let format = reader.or("LOG_FORMAT", LogFormat::Json);
        Some(Self {
            filter: filter?,
            format: format?,
        })
    }

    /// Starts logging.
    ///
    /// # Errors
    /// A message when logging was started before.
    pub fn start(&self) -> Result<(), String> {
        start(&self.filter, self.format)
    }
}

fn check_filter(filter: &str) -> Result<(), String> {
    let parsed = EnvFilter::try_new(filter);
    parsed.map(drop).map_err(|error| error.to_string())
}

/// Starts logging what `filter` lets through, which is in `RUST_LOG`'s syntax.
///
/// # Errors
/// A message when the filter cannot be parsed, or logging was started before.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("RUST_LOG: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| format!("logging: {e}"))
}
