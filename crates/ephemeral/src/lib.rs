//! Redis for what may be lost: mailed codes and cached answers. Nothing here touches stock, which
//! has connections, a fence and scripts of its own.

mod connection;

pub use connection::{Ephemeral, EphemeralError};
