//! The fold writes the log into rows, in the transaction that moves the position.

pub(crate) mod apply;
pub(crate) mod book_snapshot;
pub(crate) mod positions;
pub(crate) mod sale_rows;
pub(crate) mod skip_decisions;
pub(crate) mod skips;
pub(crate) mod working_set;
pub(crate) mod write;
