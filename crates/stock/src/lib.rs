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

mod address;
mod ask;
mod audit;
mod connection;
mod contents;
mod correct;
mod drift;
mod error;
mod expected;
mod keys;
mod nodes;
mod pending;
mod reload;
mod reply;
mod reserve;
#[cfg(test)]
mod samples;
mod script;
mod sentinel;
mod settle;
mod slots;
mod stock;
mod survey;
mod tls;
mod view;

pub use address::{Address, check_server, tcp_settings};
pub use audit::{AuditContent, AuditField, AuditNumbers, AuditPage, AuditTerms, HoldsCursor};
pub use connection::{Fence, LogIdentity, StockConnection, StockOptions};
pub use contents::Loss;
pub use correct::{CorrectReply, Correction, HoldCorrection};
pub use drift::{Drift, DriftKind, DriftReport, Repair, at_one_moment, compare};
pub use error::StockError;
pub use expected::ExpectedSale;
pub use pending::{Ack, PendingEvent, PendingReservation, PendingShrink};
pub use reload::{ClaimReply, HoldPlace, LoadHold, LoadReply, LoadShrink, OpenReply};
pub use reserve::{Attempt, ReserveOutcome, ReserveReply, ReserveRequest, ShrinkReply};
pub use settle::SettleReply;
pub use stock::Stock;
pub use survey::Survey;
pub use tls::{Access, RedisServer, TlsFiles};
pub use view::{Hold, HoldState, OutboxCursor, OutboxPage, Probe, SaleView};

/// The most items in one call, of any kind.
pub const MAX_ITEMS: usize = 500;

/// The most requests in one [`Stock::reserve`].
pub const MAX_REQUESTS: usize = 64;
