//! Structured logs on standard output, one JSON object a line.

use tracing_subscriber::EnvFilter;

/// Starts logging. `filter` is `RUST_LOG`'s syntax; `text` prints lines for people instead of JSON.
///
/// # Errors
/// A message when the filter cannot be parsed, or logging was started before.
pub fn start(filter: &str, text: bool) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("RUST_LOG: {e}"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    let started = if text {
        builder.with_ansi(false).try_init()
    } else {
        builder.json().flatten_event(true).try_init()
    };
    started.map_err(|e| format!("logging: {e}"))
}
