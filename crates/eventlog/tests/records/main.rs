//! The records' bytes: what is written, what is read back, and what is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail their test")]

mod extremes;
mod golden;
mod hostile;
mod ranges;
mod refused;
mod registry;
mod samples;
mod versions;
