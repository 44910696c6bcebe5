//! Redis: one or two nodes, their clients' connections, and the scripts.

mod grant;
mod keys;
mod load;
mod node;
mod read;
mod settle;
mod stock;

pub(crate) use grant::{Reserve, ReserveReply, ShrinkReply};
pub(crate) use keys::{Ack, Entry, HoldState, Keys, Sale, State};
pub(crate) use load::{Claim, Loaded, Opened};
pub(crate) use node::{CallError, Fence, Node, Role, Script};
pub(crate) use read::Probe;
pub(crate) use settle::SettleReply;
pub(crate) use stock::{Connection, Stock};
