//! The scripts against a real Redis.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod connection;
mod correct;
mod cost;
mod deployments;
mod grant;
mod harness;
mod load;
mod outbox;
mod parts;
mod random;
mod random_sale;
mod retire;
mod sale_tokens;
mod settle;
mod sold_out;
mod stale_master;
mod topology;
