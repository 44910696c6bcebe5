//! What follows from the rows: effects, loads of Redis, and which sales are served.

pub(crate) mod page;
pub(crate) mod serve;
pub(crate) mod snapshot;
pub(crate) mod turns;
