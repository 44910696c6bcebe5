//! Following partitions as a member of a group.

pub(crate) mod consumer;
pub(crate) mod consumer_state;
pub(crate) mod consumer_thread;
pub(crate) mod partitions;
