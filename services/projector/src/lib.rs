//! The projector: folds the event log into PostgreSQL, and carries the decisions out: it settles
//! the stock in Redis, publishes outcomes, and loads Redis anew when it was lost.
//!
//! A partition has two workers. [`fold`] turns records into rows and moves the fold's position in
//! the same transaction. [`effects`] reads those rows again and moves a position of its own once
//! Redis and the outcome topic have them. [`watch`] looks at every sale four times a second and
//! starts a [`reload`] where Redis does not serve it; [`consistency`] compares the stores with each other.

mod cached;
pub mod config;
mod consistency;
mod context;
mod effects;
mod fold;
mod lag;
mod lateness;
mod letters;
pub mod metrics;
mod partition;
mod preflight;
mod reload;
mod retry;
mod same_log;
mod standing;
pub mod startup;
mod traces;
mod unmet;
mod watch;
