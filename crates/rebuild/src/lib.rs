//! Rebuilds the order book: folds the log into a second set of tables with the code of the live fold, compares the two
//! sets at the same positions, and replaces the live tables while orders keep coming in.
//!
//! A rebuild has no effects, and its dependencies guarantee this: events come in through [`EventFeed`] as plain values,
//! decisions go into tables from which no effect is derived, and this crate cannot use anything that publishes records
//! or reaches Redis. It can use the tables:
//!
//! ```
//! use seckill_orderbook::Shadow;
//! ```
//!
//! but the following does not compile (`tests/architecture/main.rs` also checks the dependencies of the dependencies):
//!
//! ```compile_fail
//! use seckill_eventlog::EventProducer;
//! ```
//!
//! ```compile_fail
//! use seckill_stock::Stock;
//! ```

mod copy;
mod exchange;
mod proof;

use std::error::Error;

use seckill_domain::{LogBatch, Offset};
use seckill_orderbook::{ApplyError, OrderbookError};

pub use copy::{Copy, Progress};
pub use exchange::Exchanged;
pub use proof::{Proof, SaleDifference};

/// The decoded events of a partition.
pub trait EventFeed: Send + 'static {
    fn partition(&self) -> i32;

    /// The next batch. It begins where the previous one ended; the first one begins at the position of the fold. Waits
    /// for new records at the end of the log. The future may be dropped without losing a batch.
    fn next(&mut self) -> impl Future<Output = Result<LogBatch, FeedError>> + Send;
}

/// Why a feed ended.
pub type FeedError = Box<dyn Error + Send + Sync>;

/// Why a rebuild stopped. The live tables are unchanged, and the copy can be continued.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Feed(#[source] FeedError),
    /// A batch could not be written to the database.
    #[error("the copy of partition {partition} stopped; run the command again to go on: {source}")]
    Fold {
        partition: i32,
        /// Why.
        source: ApplyError,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] OrderbookError),
    /// The records that the live fold has folded could not be read in time.
    #[error("partition {partition}: nothing comes after {}, and the live tables are at {}: are KAFKA_BROKERS and DATABASE_URL of one pipeline?", at.get(), wanted.get())]
    Stalled {
        partition: i32,
        /// Where the copy stands.
        at: Offset,
        /// Where it should get.
        wanted: Offset,
    },
    /// The copy was folded beyond the live tables.
    #[error("partition {partition}: the copy is at {}, and the live tables are at {}: they lost transactions; let the projector fold them again, then repeat", at.get(), live.get())]
    Ahead {
        partition: i32,
        /// Where the copy stands.
        at: Offset,
        /// Where the live tables stand.
        live: Offset,
    },
    /// The structure of the two sets of tables differs.
    #[error(
        "the copy cannot take the place of the live tables. What only those have would be lost: keep it in \
         tables of your own, take it away from them, abort this rebuild and start again: {}",
        .0.join("; ")
    )]
    NotAlike(Vec<String>),
    /// The proof failed.
    #[error(
        "{0} sales differ between the copy and the live tables; `rebuild orders verify` prints them"
    )]
    Differs(usize),
    /// The tables could not be locked without blocking other clients for too long.
    #[error(
        "the live tables were never free for the exchange in {0} attempts: look for long transactions in pg_stat_activity, then repeat"
    )]
    Busy(u32),
}
