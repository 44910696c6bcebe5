//! What the Lua scripts of a sale (`crates/stock/scripts`) decide, as plain Rust on plain maps.
//!
//! It has two users. The random test of `crates/stock` makes every call to a real Redis and to this model, and
//! compares answers and contents: what holds for one holds for the other. The simulator runs the protocol on
//! this model, with every fault that it knows.
//!
//! Fences, claims, parts that are lost and servers that refuse writes are not rules of one sale: they belong to
//! whoever keeps it.

mod grant;
mod load;
mod rules;
mod sale;
mod settle;

pub use rules::Rules;
pub use sale::{Hold, Sale, SaleTokens, Shrink};
