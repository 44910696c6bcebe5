//! What each store does alone, on the same machine in the same minutes.

pub(super) mod copy;
mod evenly;
pub(super) mod kafka;
pub(super) mod redis;
