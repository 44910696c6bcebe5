//! One line a step, with the time it took.

use std::time::Instant;

use anyhow::{Context, Result};

/// Does `work` and prints `what` it has achieved.
pub(crate) fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work().with_context(|| format!("failed: {what}"))?;
    eprintln!("{what} ({:.1} s)", start.elapsed().as_secs_f64());
    Ok(result)
}
