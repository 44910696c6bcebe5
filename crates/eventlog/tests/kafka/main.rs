//! The clients against a real broker.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail their test")]

mod consuming;
mod gaps;
mod harness;
mod poison;
mod producing;
mod questions;
mod rebalancing;
mod scanning;
mod topics;
