//! The reads for answers: from the view in PostgreSQL, and from Redis what is not in the view yet.

mod card;
mod catalogue;
mod last_id;
mod ledger;
mod lookups;
mod orders;
mod voucher;

use std::future::Future;
use std::sync::Arc;

use seckill_domain::VoucherId;
use seckill_ephemeral::SharedCache;
use seckill_orderbook::{Orderbook, OrderbookError};
use seckill_stock::{Stock, StockError};
use tokio::runtime::Handle;

use crate::http::problem::Problem;
use catalogue::Caches;
use last_id::LastId;
use lookups::Lookups;

pub use card::Card;
pub use ledger::Ledger;
pub use orders::{OrderView, PendingOrder};
pub use voucher::{VoucherStatus, VoucherView};

/// Why there is no answer. Cached answers are shared, and so are their errors: only texts.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// PostgreSQL does not answer.
    #[error("PostgreSQL: {0}")]
    Orderbook(String),
    /// Redis does not answer.
    #[error("Redis: {0}")]
    Stock(String),
    /// PostgreSQL is behind Redis: an order that is missing may still come.
    #[error("PostgreSQL is behind Redis, or the sale is being loaded")]
    Behind,
    /// A defect, or a store with data that this program does not write.
    #[error("{0}")]
    Defect(String),
}

impl From<OrderbookError> for ReadError {
    fn from(error: OrderbookError) -> Self {
        match error {
            OrderbookError::Database(error) => Self::Orderbook(error.to_string()),
            other => Self::Defect(other.to_string()),
        }
    }
}

impl From<StockError> for ReadError {
    fn from(error: StockError) -> Self {
        match error {
            StockError::Unavailable(error) => Self::Stock(error.to_string()),
            StockError::Timeout => Self::Stock(error.to_string()),
            other => Self::Defect(other.to_string()),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match &error {
            ReadError::Orderbook(_) | ReadError::Stock(_) => {
                Self::unavailable("A store does not answer: try again in a moment.")
            }
            ReadError::Behind => {
                Self::unavailable("What became of it is not known yet: try again in a moment.")
            }
            ReadError::Defect(cause) => return Self::internal(cause),
        }
        .because(error)
    }
}

/// Where to read from.
#[derive(Debug, Clone)]
pub struct ReadSources {
    /// PostgreSQL.
    pub orderbook: Orderbook,
    /// Redis, on connections of its own: reads never delay an order.
    pub stock: Stock,
    /// What all instances remember of the catalogue.
    pub cache: SharedCache,
    /// The event topic, whose position says how far PostgreSQL is.
    pub events_topic: String,
}

/// All reads. Cheap to clone; clones share their caches.
#[derive(Clone)]
pub struct Reads(Arc<Inner>);

struct Inner {
    sources: ReadSources,
    caches: Caches,
    last_id: LastId,
    lookups: Lookups,
    runtime: Handle,
}

impl Reads {
    /// Reads run on `runtime`: a pooled connection belongs to the runtime that made it, and an HTTP
    /// worker's ends with its worker.
    #[must_use]
    pub fn new(sources: ReadSources, runtime: Handle) -> Self {
        Self(Arc::new(Inner {
            caches: Caches::new(&sources.cache),
            last_id: LastId::new(),
            lookups: Lookups::new(sources.orderbook.clone(), &runtime),
            sources,
            runtime,
        }))
    }

    /// Why Redis does not serve a sale. PostgreSQL knows whether that is temporary or permanent.
    pub async fn why_not_served(&self, voucher_id: VoucherId) -> Problem {
        match self.sale(voucher_id).await {
            Ok(None) => Problem::not_found("There is no such voucher."),
            Ok(Some(row)) if row.retired => Problem::ended(),
            Ok(Some(_)) => {
                Problem::unavailable("The sale's stock is being loaded: try again in a moment.")
            }
            Err(error) => error.into(),
        }
    }

    /// The database, for the tables of the admin API.
    ///
    /// # Errors
    /// As the call's, or [`ReadError::Defect`] when it panicked.
    pub async fn with_orderbook<T, F>(
        &self,
        call: impl FnOnce(Orderbook) -> F,
    ) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OrderbookError>> + Send + 'static,
    {
        let work = call(self.0.sources.orderbook.clone());
        self.spawn(async move { Ok(work.await?) }).await
    }

    async fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ReadError>> + Send + 'static,
    ) -> Result<T, ReadError> {
        let task = self.0.runtime.spawn(work);
        task.await
            .unwrap_or_else(|error| Err(ReadError::Defect(error.to_string())))
    }
}
