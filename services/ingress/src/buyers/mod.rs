//! Buyers' session tokens, and the sessions that have ended.

pub mod revoked;
pub mod tokens;
