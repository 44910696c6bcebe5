//! The ingress: takes orders, payments and the operators' commands over HTTP, and answers what
//! became of them.

pub mod admission;
pub mod auth;
mod background;
pub mod body;
pub mod config;
pub mod http;
pub mod limits;
mod listener;
pub mod openapi;
pub mod operations;
pub mod outcomes;
pub mod pages;
mod preflight;
pub mod problem;
pub mod reads;
pub mod reservations;
pub mod revoked;
pub mod rfc3339;
pub mod risk;
pub mod sale_tokens;
pub mod seldom;
pub mod sign_in;
pub mod startup;
pub mod streams;
pub mod tokens;
pub mod webhook;
