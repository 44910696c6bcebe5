//! The log, its brokers, clients and topics, and their consumers.

pub(crate) mod accepted_log;
mod accepted_while_running;
pub(crate) mod another_log;
mod apicurio;
pub(crate) mod consumers;
mod dead_letters;
mod freezes;
mod kafka_clients;
mod kafka_cluster;
mod late_acks;
pub(crate) mod order_states;
mod poison;
mod rebalances;
mod roll_forward;
pub(crate) mod same_end;
pub(crate) mod schema_registry;
mod schema_versions;
pub(crate) mod skipped_records;
mod stalls;
mod topics;
mod transactions;
