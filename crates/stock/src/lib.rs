//! The stock of a sale in Redis: the scripts that change it, and their typed calls.
//!
//! A sale in Redis is a view of the log (its decisions settled up to a position) and on top of that
//! the *holds* that were granted here and may not be in the log yet. A grant takes the stock and
//! writes the hold and its pending event (the *outbox* entry) in one script, so that whoever dies
//! next, the event is still there to be published.
//!
//! A sale answers only to callers who talk to the server it was loaded into (its [`Fence`]); any
//! other is told that the sale is not served, and the sale is loaded anew ([`StockConnection::claim`] to
//! [`StockConnection::open`]). A call whose answer is lost ([`StockError::Timeout`]) may have been
//! executed: ask again with the same ids.

#![warn(missing_docs)]

mod calls;
mod check;
mod redis;

pub use crate::calls::correct::{CorrectReply, Correction, HoldCorrection};
pub use crate::calls::load_items::{HoldPlace, LoadHold, LoadShrink};
pub use crate::calls::pending::{Ack, PendingEvent, PendingReservation, PendingShrink};
pub use crate::calls::reload::{ClaimReply, LoadReply, OpenReply};
pub use crate::calls::reserve::{
    Attempt, ReserveOutcome, ReserveReply, ReserveRequest, ShrinkReply,
};
pub use crate::calls::scan::{FieldContent, GrantTerms, HoldsField, SaleNumbers, ScanPage};
pub use crate::calls::settle::SettleReply;
pub use crate::calls::sold_out::{HoldersVersion, SoldOutLease};
pub use crate::calls::stock::Stock;
pub use crate::calls::survey::Survey;
pub use crate::calls::view::{
    Hold, HoldState, OrderEvent, OutboxCursor, OutboxPage, Probe, SaleView,
};
pub use crate::check::contents::Loss;
pub use crate::check::drift::{Drift, DriftKind, DriftReport, Repair, at_one_moment, compare};
pub use crate::check::expected::ExpectedSale;
pub use crate::redis::address::{Address, check_server, tcp_settings};
pub use crate::redis::connection::{Fence, LogIdentity, StockConnection, StockOptions};
pub use crate::redis::error::StockError;
pub use crate::redis::script::{MAX_ITEMS, MAX_REQUESTS};
pub use crate::redis::server::{MasterFacts, MasterServer, RedisShape};
pub use crate::redis::tls::{Access, RedisServer, TlsFiles};
