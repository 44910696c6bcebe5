//! Reads for the API and the consistency check.

pub(crate) mod consistency;
pub(crate) mod report;
mod search;
pub(crate) mod states;
pub(crate) mod view;
