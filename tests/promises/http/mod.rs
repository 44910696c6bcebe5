//! What clients send, and what they are answered.

mod bad_input;
mod catalogue;
mod documented_answers;
mod door;
mod ones_own;
mod overload;
mod overload_peak;
mod oversize;
pub(crate) mod provider_buyers;
pub(crate) mod sign_in;
mod slow_clients;
mod smuggling;
mod strange_clients;
