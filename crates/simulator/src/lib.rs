//! A random simulation of the protocol, for one sale: several ingress processes, two projectors, a timeout service,
//! PostgreSQL, Kafka, one or two Redis servers, and faults of every kind in every order. A seed determines the whole
//! history: the same seed gives the same history again.
//!
//! The decisions and their effects are the real code, `seckill_domain`. The rest is a model of the real code and makes
//! the same checks; each module names the code that it models.

mod book;
mod calls;
mod checks;
mod evidence;
mod fault_effects;
mod faults;
mod guards;
mod ingress;
mod log;
mod projector;
mod redis;
mod run;
mod scene;
mod sim;
mod task;
mod traffic;
mod wire;
mod world;

pub use evidence::{EVIDENCE, Evidence, REDUNDANT, search};
pub use guards::Guards;
pub use run::{Report, simulate, trace};
pub use world::{Mode, Violation};
