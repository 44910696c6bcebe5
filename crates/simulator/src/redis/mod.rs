//! Redis: one or two nodes, their clients' connections, and the scripts.

mod keys;
mod load;
mod node;
mod scripts;
mod stock;

pub(crate) use keys::{Keys, StoredSale};
pub(crate) use load::{Claim, Loaded, Opened};
pub(crate) use node::{CallError, Fence, Node, Role, Script};
pub(crate) use scripts::{Probe, ReserveReply};
pub(crate) use stock::{Connection, Stock};
