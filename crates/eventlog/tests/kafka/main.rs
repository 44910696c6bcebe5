//! The clients against a real broker.

mod consuming;
mod producing;
mod rebalancing;
mod support;
mod topics;
