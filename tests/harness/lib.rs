//! The running system for a test: real services with real stores, an HTTP client, and a consistency check that reads
//! the log, PostgreSQL and Redis itself.

mod client;
mod collector;
mod consistency;
mod crowd;
mod faults;
mod find_redis;
mod foreign_producer;
mod framing;
pub mod identity_provider;
mod injections;
mod interruption;
mod kafka_wire;
mod market;
mod open_loop;
mod operator;
mod outage;
mod outcomes;
mod proxy;
mod raw;
mod rivals;
mod runbook;
pub mod secured;
mod tables;
mod trade;
mod waits;
mod world;

pub use client::{Answer, Client};
pub use collector::{Collector, Span};
pub use consistency::{SaleTotals, check_consistency, check_consistency_without_log};
pub use crowd::Crowd;
pub use faults::{
    arm, await_death, await_stop, copies_of, leader_of, metrics, readiness, revive, series,
    until_ready, until_unready,
};
pub use foreign_producer::ForeignProducer;
pub use framing::{Fate, Framing, NO_REQUESTS};
pub use injections::{Injection, Victim};
pub use interruption::Interruption;
pub use kafka_wire::{Harm, KafkaWire};
pub use market::{Market, MarketOrder, OrderState};
pub use open_loop::{OpenLoop, Timed};
pub use operator::EXECUTE;
pub use outage::{Outage, Times};
pub use outcomes::{check_outcomes, outcomes};
pub use proxy::{Line, SlowWire};
pub use raw::{Raw, RawAnswer};
pub use rivals::Rivals;
pub use runbook::Runbook;
pub use secured::{Secured, Settings};
pub use trade::Trade;
pub use waits::{eventually, eventually_within, until_answered};
pub use world::{PATIENCE, SaleTerms, World};
