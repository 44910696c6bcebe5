//! Making the view agree with the log again.

pub(crate) mod accept_log;
pub(crate) mod expected;
pub(crate) mod lock;
pub(crate) mod other_log;
