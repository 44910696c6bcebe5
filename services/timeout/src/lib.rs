//! Appends `OrderExpired` to the event log for every order that is unpaid after its deadline. The event is only a
//! request, and the fold decides: an order whose payment comes first in the log stays paid, and an event that was
//! appended twice changes nothing.
//!
//! Any number of instances may run, because each claims the orders of a page before it appends their events. When an
//! instance dies, its claims lapse, and another instance takes the orders over.

pub mod config;
pub mod expirer;
pub mod metrics;
mod preflight;
pub mod startup;
pub mod worker;

pub use seckill_stores::clocks;
