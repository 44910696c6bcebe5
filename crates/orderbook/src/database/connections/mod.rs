//! Connections to PostgreSQL may stop answering at any moment without being closed, for example after a failover
//! or in a firewall that has forgotten them. So every statement has a deadline, and a connection that missed it,
//! or whose statement was cancelled, is closed.
//!
//! The pool of sqlx is not used. It pings each connection that is given back, without a deadline, and a connection
//! that does not answer then takes a place in the pool for ever.

mod connection;
mod pool;
mod session;

pub(crate) use self::connection::{Connection, Transaction};
pub(crate) use self::pool::{Pool, PoolOptions};
pub(crate) use self::session::Session;

/// The time limit of a statement that reads or writes whole tables, such as building an index over a hundred
/// million rows.
pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(15 * 60);
