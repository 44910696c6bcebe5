//! The oversell lab: the known ways to run a flash sale, rung by rung, each against a real PostgreSQL and
//! Redis under the same load and the same faults, and what came of it.
//!
//! [`strategy::Strategy`] is what a rung implements, [`rungs::all`] lists them, [`scenario::Scenario`] is
//! what is done to each, [`run`] does it, and [`render`] writes the page.

pub mod chart;
mod crowd;
pub mod disk;
pub mod failure;
mod fault;
pub mod gate;
pub mod lab;
mod late_release;
mod over_http;
pub mod pipeline;
pub mod plan;
pub mod render;
pub mod report;
pub mod run;
pub mod rungs;
pub mod scenario;
pub mod session;
pub mod store;
pub mod strategy;
pub mod worker;
