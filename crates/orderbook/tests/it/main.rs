//! The order book against a real PostgreSQL.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod api;
mod effects;
mod expected_book;
mod expiry;
mod extremes;
mod findings;
mod fold;
mod harness;
mod load;
mod other_logs;
mod plans;
mod shelf;
mod skips;
mod subjects;
mod users;
