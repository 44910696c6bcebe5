//! The running system as a test sees it: real services over real stores, an HTTP client, and an
//! auditor that reads the log, PostgreSQL and Redis itself and believes nobody.

mod auditor;
mod client;
mod world;

pub use auditor::{Audit, audit};
pub use client::{Answer, Client};
pub use world::{SaleTerms, World, eventually};
