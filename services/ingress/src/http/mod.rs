//! HTTP itself: connections, bodies, what requests and answers have in common. Knows none of the other rooms.

pub mod address;
pub mod body;
pub mod events;
pub(crate) mod listener;
pub mod problem;
pub mod request;
pub(crate) mod resource;
pub mod rfc3339;
pub(crate) mod schema;
pub mod trace;
