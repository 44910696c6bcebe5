//! The scripts against a real Redis.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod correct;
mod cost;
mod deployments;
mod grant;
mod load;
mod parts;
mod random;
mod sale_tokens;
mod settle;
mod stale_master;
mod support;
mod topology;
mod world;
