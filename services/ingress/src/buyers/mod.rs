//! Buyers' tokens, ours and an identity provider's, and the sessions that have ended.

pub mod provider;
pub mod revoked;
pub mod tokens;
