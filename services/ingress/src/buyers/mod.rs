//! Who a buyer is: their tokens, and which of those are ended.

pub mod revoked;
pub mod tokens;
