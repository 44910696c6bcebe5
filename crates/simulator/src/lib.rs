//! The protocol as a random simulation, for one sale: several ingress processes, two projectors, a
//! timeout service, PostgreSQL, Kafka, one or two Redis servers, and faults of every kind in every
//! order. One seed is one history; the same seed is the same history again.
//!
//! What decides and what follows from it is the real code, `seckill_domain`. The rest is modelled
//! after the code that it stands for, check by check; each module says which.

mod book;
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
mod world;

pub use evidence::{EVIDENCE, Evidence, REDUNDANT, search};
pub use guards::Guards;
pub use run::{Report, simulate, trace};
pub use world::{Mode, Violation};
