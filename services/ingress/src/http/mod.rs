//! HTTP itself: connections, bodies, and what requests and answers have in common. It imports no other module of the
//! ingress.

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
