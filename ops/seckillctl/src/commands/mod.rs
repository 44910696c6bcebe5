//! One file a group of commands.

pub(crate) mod db;
pub(crate) mod order;
pub(crate) mod sale;
pub(crate) mod token;
pub(crate) mod topics;
