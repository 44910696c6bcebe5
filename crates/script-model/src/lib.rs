//! A model of the Lua scripts of a sale (`crates/stock/scripts`): their decisions in plain Rust on plain maps.
//!
//! It has two users. The random test of `crates/stock` makes every call to a real Redis and to this model, and
//! compares answers and contents, so a property of the model is also a property of the scripts. The simulator runs the
//! protocol on this model, with every fault that it knows.
//!
//! Fences, claims, lost parts of a sale and servers that refuse writes are not in this model, because they are not
//! rules of one sale. Its users add them.

mod grant;
mod load;
mod rules;
mod sale;
mod settle;

pub use rules::Rules;
pub use sale::{Hold, Sale, SaleTokens, Shrink};
