//! Reading the log without a group: from the start, a range, an order's history.

pub(crate) mod event_reader;
pub(crate) mod history;
pub(crate) mod reader;
pub(crate) mod record_reader;
pub(crate) mod same_log;
pub(crate) mod scan;
pub(crate) mod shown;
