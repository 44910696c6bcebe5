//! Access to Redis: its address, finding the masters, connections, scripts and their replies.

pub(crate) mod address;
pub(crate) mod ask;
pub(crate) mod connection;
pub(crate) mod error;
pub(crate) mod nodes;
pub(crate) mod reply;
pub(crate) mod script;
pub(crate) mod sentinel;
pub(crate) mod server;
pub(crate) mod slots;
pub(crate) mod tls;
