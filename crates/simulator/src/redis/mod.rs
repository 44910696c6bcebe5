//! Redis: one or two nodes, their clients' connections, and the scripts.

mod connection;
mod keys;
mod load;
mod node;
mod scripts;

pub(crate) use connection::{Connection, Stock};
pub(crate) use keys::{Keys, StoredSale};
pub(crate) use load::{Claim, Loaded, Opened};
pub(crate) use node::{CallError, Fence, Message, Node, Role, Script};
pub(crate) use scripts::{HoldersVersion, Probe, ReserveReply, SoldOutLease};
