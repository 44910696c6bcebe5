//! Redis for what may be lost: mailed codes and cached answers. Nothing here touches stock, which
//! has connections, a fence and scripts of its own.

mod connection;
mod kind;
pub mod metrics;
mod server;
mod shared;
mod tiered;

pub use connection::{Ephemeral, EphemeralError};
pub use kind::{CARD, Key, Kind, SHELF, Strategy};
pub use shared::SharedCache;
pub use tiered::Tiered;
