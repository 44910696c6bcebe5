//! Ends the time to pay: appends `OrderExpired` to the event log for every order that is unpaid
//! past its deadline. The event only asks; the fold decides, so an order whose payment came first
//! in the log stays paid, and an event that was appended twice changes nothing.
//!
//! Any number of instances may run: each claims the orders of a page before it appends their
//! events. An instance that dies leaves its claims to lapse, and another takes the orders over.

pub mod config;
pub mod expirer;
pub mod metrics;
mod preflight;
pub mod startup;
pub mod worker;

pub use seckill_stores::clocks;
