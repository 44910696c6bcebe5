//! The view of the event log in PostgreSQL: sales, orders and refunds, each partition's position,
//! and what follows from the rows (effects, loads of Redis, expiries).
//!
//! One write path: [`Orderbook::apply`] folds a batch of one partition and moves the partition's
//! position in the same transaction. Everything else reads, or keeps books of its own beside the
//! view (claims of expiries, voucher ids, users and their ended sessions, the operators' audit, dead
//! letters dealt with).

#![warn(missing_docs)]

mod accept_log;
mod admin;
mod apply;
mod audit;
mod book_snapshot;
mod connect;
mod connections;
mod effects;
mod error;
mod expected;
mod expiry;
mod migrate;
mod other_log;
mod positions;
mod reads;
mod rebuild;
mod rebuild_fold;
mod rebuild_proof;
mod rebuild_record;
mod rebuild_swap;
mod repair;
mod risk;
mod rows;
mod sale_rows;
mod serve;
mod sessions;
mod skip_decisions;
mod skips;
mod snapshot;
mod sql_time;
mod users;
mod working_set;
mod write;

pub use accept_log::{AcceptLog, AcceptedLog, LostRecords};
pub use admin::{AuditEntry, RequestKey, SaleRequest};
pub use apply::{Adjustment, Applied, Reload};
pub use audit::{OrderSums, SaleUnits};
pub use book_snapshot::BookSnapshot;
pub use connect::{Orderbook, OrderbookOptions, check_database_url};
pub use effects::EffectsPage;
pub use error::{ApplyError, OrderbookError};
pub use expected::ExpectedBook;
pub use expiry::DueOrder;
pub use other_log::Likeness;
pub use positions::{FoldPosition, View};
pub use reads::{LedgerRow, OrderAsOf, SaleRow};
pub use rebuild::{RebuildLock, Shadow};
pub use rebuild_fold::ShadowFold;
pub use rebuild_proof::Fingerprint;
pub use rebuild_record::{RebuildPhase, RebuildRecord, Schemas};
pub use rebuild_swap::{Exchange, Swap};
pub use repair::FoldLock;
pub use risk::RiskRule;
pub use sale_rows::{RowDifference, RowDifferenceKind, SaleRows};
pub use serve::{Leaving, ServedSale};
pub use sessions::{EndedSessions, Revocations, RevokedSession};
pub use skip_decisions::{SkipBegun, SkipDecisions, cause_of};
pub use skips::{SkipFate, SkippedRecord};
pub use snapshot::{LoadOrder, LoadSnapshot};
