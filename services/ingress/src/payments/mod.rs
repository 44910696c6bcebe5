//! What the payment provider says, and whether it was the provider.

pub mod api;
mod seldom;
pub mod webhook;
