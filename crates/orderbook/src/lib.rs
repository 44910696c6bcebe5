//! The view of the event log in PostgreSQL: sales, orders and refunds, each partition's position,
//! and what follows from the rows (effects, loads of Redis, expiries).
//!
//! There is one write path: [`Orderbook::apply`] folds a batch of one partition and moves the partition's
//! position in the same transaction. Everything else reads, or writes other tables beside the
//! view (claims of expiries, voucher ids, users and their ended sessions, the operators' audit, what was done
//! about dead letters).

#![warn(missing_docs)]

mod books;
mod database;
mod effects;
mod fold;
pub mod metrics;
mod reads;
mod rebuild;
mod repair;

pub use crate::books::admin::{AuditEntry, AuditedDeed, RequestKey, SaleRequest};
pub use crate::books::expiry::DueOrder;
pub use crate::books::findings::Finding;
pub use crate::books::risk::RiskRule;
pub use crate::books::sessions::{EndedSessions, Revocations, RevokedSession};
pub use crate::database::connect::{Orderbook, OrderbookOptions, check_database_url};
pub use crate::database::error::{ApplyError, OrderbookError};
pub use crate::database::server::DatabaseServer;
pub use crate::effects::page::EffectsPage;
pub use crate::effects::serve::{Leaving, ServedSale};
pub use crate::effects::snapshot::{LoadOrder, LoadSnapshot};
pub use crate::effects::turns::{Turn, Turns};
pub use crate::fold::apply::{Adjustment, Applied, Reload};
pub use crate::fold::book_snapshot::BookSnapshot;
pub use crate::fold::positions::{FoldPosition, View};
pub use crate::fold::sale_rows::{RowDifference, RowDifferenceKind, RowLoss, SaleRows};
pub use crate::fold::skip_decisions::{SkipBegun, SkipDecisions, cause_of};
pub use crate::fold::skips::{SkipFate, SkippedRecord};
pub use crate::reads::consistency::{OrderSums, SaleUnits, Through};
pub use crate::reads::report::{OrderFigures, RefundFigures, SaleReport, StockChange};
pub use crate::reads::states::OrderState;
pub use crate::reads::view::{LedgerRow, OrderAsOf, SaleRow};
pub use crate::rebuild::fold::ShadowFold;
pub use crate::rebuild::proof::Fingerprint;
pub use crate::rebuild::record::{RebuildPhase, RebuildRecord, Schemas};
pub use crate::rebuild::shadow::{RebuildLock, Shadow};
pub use crate::rebuild::swap::{Exchange, Swap};
pub use crate::repair::accept_log::{AcceptLog, AcceptedLog, LostRecords};
pub use crate::repair::expected::ExpectedBook;
pub use crate::repair::lock::{FoldLock, Repaired};
pub use crate::repair::other_log::Likeness;
