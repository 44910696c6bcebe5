//! The highest id of a sale. A request for a higher id is answered without asking a store. There are too many such
//! ids to cache each of them as unknown.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use moka::future::Cache;
use seckill_domain::VoucherId;
use seckill_orderbook::Orderbook;

/// How long a sale that was just put up may be unknown.
const ASKED_TTL: Duration = Duration::from_millis(100);
/// While PostgreSQL does not answer.
const UNKNOWN: i64 = i64::MAX;

/// What this process knows of it.
pub(super) struct LastId {
    seen: AtomicI64,
    asked: Cache<(), i64>,
}

impl LastId {
    pub(super) fn new() -> Self {
        Self {
            seen: AtomicI64::new(0),
            asked: Cache::builder().time_to_live(ASKED_TTL).build(),
        }
    }

    /// Whether `id` is above all that were given out. One below another that was seen costs nothing here,
    /// whatever store is away.
    pub(super) async fn is_before(&self, id: VoucherId, orderbook: &Orderbook) -> bool {
        if id.get() <= self.seen.load(Ordering::Relaxed) {
            return false;
        }
        let ask = async {
            let last = orderbook.last_voucher_id().await;
            last.inspect(|last| self.raise(*last)).unwrap_or(UNKNOWN)
        };
        id.get() > self.asked.get_with((), ask).await
    }

    /// There is such a sale.
    pub(super) fn saw(&self, id: VoucherId) {
        self.raise(id.get());
    }

    fn raise(&self, last: i64) {
        self.seen.fetch_max(last, Ordering::Relaxed);
    }
}
