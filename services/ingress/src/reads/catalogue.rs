//! Sales as everybody sees them, remembered for a second: a hundred buyers a unit ask at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use seckill_domain::{Timestamp, VoucherId};
use seckill_orderbook::SaleRow;
use seckill_stock::{Probe, SaleView};

use super::{Inner, ReadError, Reads};

const TTL: Duration = Duration::from_secs(1);
/// Of a row that may change at any moment: enough to take the load off PostgreSQL when Redis stops
/// serving a sale that everybody wants.
const ROW_TTL: Duration = Duration::from_millis(100);
const CACHED_SALES: u64 = 10_000;
const CACHED_PAGES: u64 = 100;

/// The memory of the catalogue.
pub(super) struct Caches {
    rows: Cache<VoucherId, Option<Arc<SaleRow>>>,
    vouchers: Cache<VoucherId, Option<VoucherView>>,
    pages: Cache<(u32, Option<VoucherId>), Arc<[VoucherView]>>,
}

impl Caches {
    pub(super) fn new() -> Self {
        Self {
            rows: Cache::builder()
                .max_capacity(CACHED_SALES)
                .expire_after(RowExpiry)
                .build(),
            vouchers: remembering(CACHED_SALES),
            pages: remembering(CACHED_PAGES),
        }
    }
}

/// What is unknown or over stays so for a while; everything else is news soon.
struct RowExpiry;

impl Expiry<VoucherId, Option<Arc<SaleRow>>> for RowExpiry {
    fn expire_after_create(
        &self,
        _: &VoucherId,
        row: &Option<Arc<SaleRow>>,
        _: Instant,
    ) -> Option<Duration> {
        let is_live = row.as_ref().is_some_and(|row| !row.retired);
        Some(if is_live { ROW_TTL } else { TTL })
    }
}

fn remembering<K, V>(entries: u64) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(entries)
        .time_to_live(TTL)
        .build()
}

/// A sale with what Redis says of it.
#[derive(Debug, Clone)]
pub struct VoucherView {
    /// Its row.
    pub row: Arc<SaleRow>,
    /// Its numbers in Redis; none while Redis does not serve it.
    pub served: Option<SaleView>,
}

/// Whether an order has a chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VoucherStatus {
    /// Before its window.
    Scheduled,
    /// In its window, with units, and served.
    Open,
    /// In its window and served, with no units left for now.
    SoldOut,
    /// Over, off the shelf, or not served for now.
    Closed,
}

impl VoucherStatus {
    /// As answers spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Open => "open",
            Self::SoldOut => "sold_out",
            Self::Closed => "closed",
        }
    }
}

impl VoucherView {
    /// At this moment: a view that is a second old must not open late.
    #[must_use]
    pub fn status(&self, now: Timestamp) -> VoucherStatus {
        let sale = &self.row.sale;
        if sale.closed.is_some() || now >= sale.terms.closes_at {
            return VoucherStatus::Closed;
        }
        if now < sale.terms.opens_at {
            return VoucherStatus::Scheduled;
        }
        match &self.served {
            Some(view) if view.sale_closed => VoucherStatus::Closed,
            Some(view) if view.stock > 0 => VoucherStatus::Open,
            Some(_) => VoucherStatus::SoldOut,
            None => VoucherStatus::Closed,
        }
    }

    /// Units free, by Redis where it serves the sale.
    #[must_use]
    pub fn stock_left(&self) -> i64 {
        let by_redis = self.served.as_ref().map(|view| view.stock);
        by_redis.unwrap_or(self.row.sale.available)
    }
}

impl Reads {
    /// A sale's row, at most a tenth of a second old; that there is none, or that it is over, is
    /// remembered for a second. None: there is no such sale.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub async fn sale(&self, id: VoucherId) -> Result<Option<Arc<SaleRow>>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move { inner.sale(id).await }).await
    }

    /// A sale, at most a second old. None: there is no such sale.
    ///
    /// # Errors
    /// When PostgreSQL does not answer. Without Redis the sale is not served.
    pub async fn voucher(&self, id: VoucherId) -> Result<Option<VoucherView>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            let read = async {
                match inner.sale(id).await? {
                    Some(row) => Ok(inner.served(vec![row]).await.pop()),
                    None => Ok(None),
                }
            };
            let cached = inner.caches.vouchers.try_get_with(id, read).await;
            cached.map_err(shared)
        })
        .await
    }

    /// At most `limit` sales, the newest first, at most a second old; `before` is the last one of
    /// the page before.
    ///
    /// # Errors
    /// As [`Self::voucher`].
    pub async fn vouchers(
        &self,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Arc<[VoucherView]>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            let read = async {
                let rows = inner.sources.orderbook.sales(limit, before).await?;
                let rows = rows.into_iter().map(Arc::new).collect();
                Ok(inner.served(rows).await.into())
            };
            let cached = inner.caches.pages.try_get_with((limit, before), read).await;
            cached.map_err(shared)
        })
        .await
    }
}

impl Inner {
    pub(super) async fn sale(&self, id: VoucherId) -> Result<Option<Arc<SaleRow>>, ReadError> {
        let read = async { Ok(self.sources.orderbook.sale(id).await?.map(Arc::new)) };
        let cached = self.caches.rows.try_get_with(id, read).await;
        cached.map_err(shared)
    }

    /// The rows with what Redis says of each.
    async fn served(&self, rows: Vec<Arc<SaleRow>>) -> Vec<VoucherView> {
        let ids: Vec<VoucherId> = rows.iter().map(|row| row.sale.voucher_id).collect();
        let survey = self.sources.stock.survey(&ids).await;
        if let Some(error) = survey.failure {
            tracing::warn!(%error, "the catalogue is answered without all of Redis");
        }
        let view = |(row, probe)| VoucherView {
            row,
            served: match probe {
                Ok(Probe::Open(view)) => Some(view),
                Ok(Probe::Closed { .. }) | Err(_) => None,
            },
        };
        rows.into_iter().zip(survey.probes).map(view).collect()
    }
}

fn shared(error: Arc<ReadError>) -> ReadError {
    Arc::unwrap_or_clone(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use seckill_domain::{Epoch, Money, Offset, Sale, Terms};

    const OPENS: Timestamp = Timestamp::from_micros(100);
    const CLOSES: Timestamp = Timestamp::from_micros(200);

    fn view(stock: Option<i64>, closed: bool) -> VoucherView {
        let terms = Terms {
            title: "Lamp".to_owned(),
            price: Money::new(500, "EUR".parse().unwrap()).unwrap(),
            stock: 9,
            max_quantity: 1,
            opens_at: OPENS,
            closes_at: CLOSES,
            hold_seconds: 60,
        };
        let sale = Sale {
            voucher_id: VoucherId::new(7).unwrap(),
            terms,
            adjusted: 0,
            available: 9,
            unpaid: 0,
            paid: 0,
            epoch: Epoch::FIRST,
            scheduled_offset: Offset::new(0),
            closed: closed.then_some((OPENS, Offset::new(1))),
        };
        let row = SaleRow {
            sale,
            partition: 0,
            loaded: true,
            retired: false,
        };
        let served = stock.map(|stock| SaleView {
            stock,
            held: 0,
            unsettled: 0,
            epoch: Epoch::FIRST,
            position: Offset::new(1),
            sale_closed: closed,
            opens_at: OPENS,
            closes_at: CLOSES,
            max_quantity: 1,
        });
        VoucherView {
            row: Arc::new(row),
            served,
        }
    }

    fn status(at: i64, stock: Option<i64>, closed: bool) -> VoucherStatus {
        view(stock, closed).status(Timestamp::from_micros(at))
    }

    #[test]
    fn the_window_is_half_open_and_a_close_ends_it() {
        assert_eq!(status(99, Some(9), false), VoucherStatus::Scheduled);
        assert_eq!(status(100, Some(9), false), VoucherStatus::Open);
        assert_eq!(status(199, Some(9), false), VoucherStatus::Open);
        assert_eq!(status(200, Some(9), false), VoucherStatus::Closed);
        assert_eq!(status(99, Some(9), true), VoucherStatus::Closed);
        assert_eq!(status(150, Some(9), true), VoucherStatus::Closed);
    }

    #[test]
    fn open_only_when_redis_serves_it_with_units() {
        assert_eq!(status(150, Some(1), false), VoucherStatus::Open);
        assert_eq!(status(150, Some(0), false), VoucherStatus::SoldOut);
        assert_eq!(status(150, None, false), VoucherStatus::Closed);
        assert_eq!(status(50, None, false), VoucherStatus::Scheduled);
        assert_eq!(view(Some(3), false).stock_left(), 3);
        assert_eq!(view(None, false).stock_left(), 9);
    }
}
