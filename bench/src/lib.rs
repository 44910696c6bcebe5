//! The demo of a whole sale and the throughput benchmark: both speak to a running stack as its
//! users do, over HTTP, and look into its stores only to check what they were told.

pub mod answer;
pub mod api;
pub mod client;
mod cpu;
pub mod credentials;
pub mod demo;
pub mod environment;
pub mod expiry;
pub mod latency;
pub mod load;
pub mod machine;
pub mod orders;
pub mod progress;
pub mod redis_server;
pub mod table;
pub mod throughput;
