//! Appending: events, outcomes, dead letters, and their acks.

pub(crate) mod acks;
pub(crate) mod dead_letter;
pub(crate) mod producer;
pub(crate) mod redrive;
pub(crate) mod schema_ids;
