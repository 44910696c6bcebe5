//! What operators do and look at.

pub mod api;
pub mod auth;
mod change;
mod members;
pub mod operations;
pub mod page;
mod stock_request;
pub mod terms;
