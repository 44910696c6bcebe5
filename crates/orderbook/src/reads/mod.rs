//! Reads for the API and the auditor.

pub(crate) mod audit;
pub(crate) mod report;
pub(crate) mod states;
pub(crate) mod view;
