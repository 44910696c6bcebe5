//! Connections to PostgreSQL that may go mute at any moment: a failover or a firewall that forgets them
//! closes nothing. Every statement has a deadline here, and a connection that missed it, or whose statement
//! was given up, is thrown away.
//!
//! The pool is not sqlx's: that one asks each connection that comes back for an answer, without a deadline,
//! and a connection that is mute then takes its place in the pool for ever.

mod connection;
mod pool;
mod session;

pub(crate) use self::connection::{Connection, Transaction};
pub(crate) use self::pool::{Pool, PoolOptions};
pub(crate) use self::session::Session;

/// What a statement may take that reads or writes whole tables: it builds an index over a hundred million
/// rows.
pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(15 * 60);
