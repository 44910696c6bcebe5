//! The ingress: takes orders, payments and the operators' commands over HTTP, and answers what
//! became of them.

mod background;
pub mod buyers;
mod clients;
pub mod config;
pub mod gate;
pub mod http;
pub mod issuer;
pub mod metrics;
pub mod middleware;
pub mod openapi;
pub mod operators;
pub mod orders;
pub mod payments;
mod preflight;
pub mod reads;
pub mod routes;
pub mod shop;
pub mod sign_in;
pub mod startup;
pub mod state;
