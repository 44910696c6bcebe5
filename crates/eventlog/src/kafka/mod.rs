//! Kafka itself: settings, topics, and whether the cluster makes progress.

pub(crate) mod address;
pub(crate) mod cluster;
pub(crate) mod progress;
pub(crate) mod properties;
pub(crate) mod settings;
pub(crate) mod statistics;
pub(crate) mod topic_settings;
pub(crate) mod topics;
pub(crate) mod witness;
