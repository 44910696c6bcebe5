//! A buyer's orders: placing one, cancelling it, and what became of it.

pub mod cancel;
pub mod outcomes;
pub mod place;
pub mod representation;
pub mod reservations;
pub mod sse;
pub mod status;
pub mod streams;
