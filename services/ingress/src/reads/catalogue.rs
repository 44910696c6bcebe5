//! The public catalogue. A card is a sale without its stock. It is read from the copy of this process,
//! or from the cache in Redis, or from PostgreSQL. The stock is read again several times a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::future::Cache;
use seckill_domain::VoucherId;
use seckill_ephemeral::{CARD, Key, SHELF, SharedCache, Tiered};
use seckill_orderbook::SaleRow;
use seckill_stock::Probe;

use super::card::Card;
use super::voucher::VoucherView;
use super::{Inner, ReadError, Reads};

/// How long a row is remembered that is unknown or over.
const ROW_TTL: Duration = Duration::from_secs(1);
/// The same for a row that may change at any moment. It is long enough to protect PostgreSQL when Redis stops
/// serving a popular sale.
const LIVE_ROW_TTL: Duration = Duration::from_millis(100);
/// Stock on an open page is at most a second old: with this, the time from one of its questions to the next
/// (`STOCK_EVERY_MS` of the shop's script) and what reading takes. A page's questions cost more than a sale's reads.
const STOCK_TTL: Duration = Duration::from_millis(200);
const CACHED_SALES: u64 = 10_000;
const CACHED_PAGES: u64 = 100;
/// Sales on the shelf that is cached as a whole: the longest first page.
const SHELF_SALES: u32 = 100;

/// One page of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CatalogueQuery {
    limit: u32,
    before: Option<VoucherId>,
    /// Also what is off the shelf.
    all: bool,
}

/// The cached catalogue of this process.
pub(super) struct Caches {
    rows: Cache<VoucherId, Option<Arc<SaleRow>>>,
    cards: Tiered<Card>,
    shelf: Tiered<Vec<Card>>,
    vouchers: Cache<VoucherId, Option<VoucherView>>,
    pages: Cache<CatalogueQuery, Arc<[VoucherView]>>,
}

impl Caches {
    pub(super) fn new(shared: &SharedCache) -> Self {
        Self {
            rows: Cache::builder()
                .max_capacity(CACHED_SALES)
                .expire_after(RowExpiry)
                .build(),
            cards: Tiered::new(&CARD, shared.clone()),
            shelf: Tiered::new(&SHELF, shared.clone()),
            vouchers: remembering(CACHED_SALES),
            pages: remembering(CACHED_PAGES),
        }
    }
}

/// A sale that is unknown or over is cached for longer than any other.
struct RowExpiry;

impl Expiry<VoucherId, Option<Arc<SaleRow>>> for RowExpiry {
    fn expire_after_create(
        &self,
        _: &VoucherId,
        row: &Option<Arc<SaleRow>>,
        _: Instant,
    ) -> Option<Duration> {
        let is_live = row.as_ref().is_some_and(|row| !row.retired);
        Some(if is_live { LIVE_ROW_TTL } else { ROW_TTL })
    }
}

fn remembering<K, V>(entries: u64) -> Cache<K, V>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(entries)
        .time_to_live(STOCK_TTL)
        .build()
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

    /// A sale with its stock, at most a second old. None: there is no such sale.
    ///
    /// # Errors
    /// When neither cache nor PostgreSQL knows. Without Redis the sale is not served.
    pub async fn voucher(&self, id: VoucherId) -> Result<Option<VoucherView>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            if inner.is_beyond_all(id).await {
                return Ok(None);
            }
            let read = Box::pin(async {
                match inner.card(id).await? {
                    Some(card) => {
                        inner.last_id.saw(id);
                        Ok(inner.with_stock(vec![card]).await.pop())
                    }
                    None => Ok(None),
                }
            });
            let cached = inner.caches.vouchers.try_get_with(id, read).await;
            cached.map_err(shared)
        })
        .await
    }

    /// What [`Self::voucher`] answers without asking anybody; none where it would ask.
    pub async fn remembered_voucher(&self, id: VoucherId) -> Option<Option<VoucherView>> {
        self.0.caches.vouchers.get(&id).await
    }

    /// The same of the first page of [`Self::vouchers`].
    pub async fn remembered_shelf(&self, limit: u32) -> Option<Arc<[VoucherView]>> {
        let (before, all) = (None, false);
        let page = CatalogueQuery { limit, before, all };
        self.0.caches.pages.get(&page).await
    }

    /// At most `limit` sales on the shelf, the newest first, with their stock at most a second old;
    /// `before` is the last one of the page before. A sale whose last unit is paid is off the shelf
    /// until it gets more.
    ///
    /// # Errors
    /// As [`Self::voucher`].
    pub async fn vouchers(
        &self,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Arc<[VoucherView]>, ReadError> {
        let all = false;
        self.page(CatalogueQuery { limit, before, all }).await
    }

    /// As [`Self::vouchers`], also what is off the shelf: for operators.
    ///
    /// # Errors
    /// As [`Self::voucher`].
    pub async fn all_vouchers(
        &self,
        limit: u32,
        before: Option<VoucherId>,
    ) -> Result<Arc<[VoucherView]>, ReadError> {
        let all = true;
        self.page(CatalogueQuery { limit, before, all }).await
    }

    async fn page(&self, mut page: CatalogueQuery) -> Result<Arc<[VoucherView]>, ReadError> {
        let inner = self.0.clone();
        self.spawn(async move {
            // A cursor beyond the newest sale means the first page, which is cached.
            if let Some(before) = page.before
                && inner.is_beyond_all(before).await
            {
                page.before = None;
            }
            let read = Box::pin(async {
                let cards = inner.cards_of(page).await?;
                Ok(inner.with_stock(cards).await.into())
            });
            let cached = inner.caches.pages.try_get_with(page, read).await;
            cached.map_err(shared)
        })
        .await
    }

    /// Drops this process' copies of a sale: an outcome says that it has changed.
    pub async fn forget(&self, id: VoucherId) {
        let caches = &self.0.caches;
        self.0.last_id.saw(id);
        caches.cards.drop_copy(&Key::card(id)).await;
        caches.shelf.drop_copy(&Key::shelf()).await;
        caches.rows.invalidate(&id).await;
        caches.vouchers.invalidate(&id).await;
        caches.pages.invalidate_all();
    }
}

impl Inner {
    /// Whether no sale has such a high id, or not one that any instance has heard of for long.
    async fn is_beyond_all(&self, id: VoucherId) -> bool {
        self.last_id.is_before(id, &self.sources.orderbook).await
    }

    pub(super) async fn sale(&self, id: VoucherId) -> Result<Option<Arc<SaleRow>>, ReadError> {
        if self.is_beyond_all(id).await {
            return Ok(None);
        }
        let read = async { Ok(self.sources.orderbook.sale(id).await?.map(Arc::new)) };
        let cached = self.caches.rows.try_get_with(id, read).await;
        cached.map_err(shared)
    }

    async fn card(&self, id: VoucherId) -> Result<Option<Arc<Card>>, ReadError> {
        let orderbook = self.sources.orderbook.clone();
        let build = move || {
            let orderbook = orderbook.clone();
            async move {
                let row = orderbook.sale(id).await?;
                Ok::<_, ReadError>(row.as_ref().map(Card::from))
            }
        };
        self.caches.cards.get(&Key::card(id), build).await
    }

    async fn cards_of(&self, page: CatalogueQuery) -> Result<Vec<Arc<Card>>, ReadError> {
        let CatalogueQuery { limit, before, all } = page;
        // Only the first page is cached: with keys for all cursors, any client could fill the cache.
        if before.is_none() && !all && limit <= SHELF_SALES {
            let shelf = self.shelf().await?;
            let first = shelf.iter().take(limit as usize);
            return Ok(first.cloned().map(Arc::new).collect());
        }
        let orderbook = &self.sources.orderbook;
        let rows = if all {
            orderbook.sales(limit, before).await?
        } else {
            orderbook.sales_on_shelf(limit, before).await?
        };
        Ok(rows.iter().map(Card::from).map(Arc::new).collect())
    }

    async fn shelf(&self) -> Result<Arc<Vec<Card>>, ReadError> {
        let orderbook = self.sources.orderbook.clone();
        let build = move || {
            let orderbook = orderbook.clone();
            async move {
                let rows = orderbook.sales_on_shelf(SHELF_SALES, None).await?;
                Ok::<_, ReadError>(Some(rows.iter().map(Card::from).collect()))
            }
        };
        let shelf = self.caches.shelf.get(&Key::shelf(), build).await?;
        Ok(shelf.unwrap_or_default())
    }

    /// The cards with what Redis says of each, in one round trip, and PostgreSQL of the others.
    async fn with_stock(&self, cards: Vec<Arc<Card>>) -> Vec<VoucherView> {
        let ids: Vec<VoucherId> = cards.iter().map(|card| card.voucher_id).collect();
        let survey = self.sources.stock.survey(&ids).await;
        if let Some(error) = survey.failure {
            tracing::warn!(%error, "the catalogue is answered without all of Redis");
        }
        let not_served: Vec<VoucherId> = ids
            .iter()
            .zip(&survey.probes)
            .filter(|(_, probe)| !matches!(probe, Ok(Probe::Open(_))))
            .map(|(id, _)| *id)
            .collect();
        let available = self.available(&not_served).await;
        let view = |(card, probe): (Arc<Card>, Result<Probe, _>)| VoucherView {
            available: available
                .get(&card.voucher_id)
                .copied()
                .unwrap_or(card.available_then),
            served: match probe {
                Ok(Probe::Open(view)) => Some(view),
                Ok(Probe::NotServed { .. }) | Err(_) => None,
            },
            card,
        };
        cards.into_iter().zip(survey.probes).map(view).collect()
    }

    async fn available(&self, ids: &[VoucherId]) -> HashMap<VoucherId, i64> {
        if ids.is_empty() {
            return HashMap::new();
        }
        let read = self.sources.orderbook.available_of(ids).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the catalogue is answered without PostgreSQL");
            HashMap::new()
        })
    }
}

fn shared(error: Arc<ReadError>) -> ReadError {
    Arc::unwrap_or_clone(error)
}
