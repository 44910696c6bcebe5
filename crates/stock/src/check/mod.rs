//! What a sale should hold by the log, what it holds, and how it is repaired.

pub(crate) mod contents;
pub(crate) mod drift;
pub(crate) mod expected;
#[cfg(test)]
pub(crate) mod samples;
