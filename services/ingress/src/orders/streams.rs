//! The open streams: which of them an outcome wakes, how many a buyer may have, and the read that all streams of an
//! order share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use seckill_domain::{OrderId, UserId};
use seckill_metrics::Gauge;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::reads::{OrderView, ReadError};

/// In all.
const OPEN_MAX: usize = 10_000;
/// Of one buyer. A browser opens no more to one host.
const OF_BUYER_MAX: usize = 20;
/// Of one buyer for one order.
const OF_ORDER_MAX: usize = 5;
/// How old what another stream has read may be.
const SHARED_FOR: Duration = Duration::from_millis(2_500);

/// Streams by order and buyer. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Streams(Arc<Inner>);

struct Inner {
    open: Mutex<Open>,
    gauge: Gauge,
    ending: CancellationToken,
}

/// By order and buyer, so that a buyer who asks for an order of another buyer uses nothing of the other's limits.
#[derive(Default)]
struct Open {
    orders: HashMap<OrderId, HashMap<UserId, Entry>>,
    buyers: HashMap<UserId, usize>,
    total: usize,
}

/// One buyer's streams of one order.
struct Entry {
    streams: usize,
    woken: watch::Sender<Instant>,
    last: LastRead,
}

/// When the last read began, and what it found.
type LastRead = Arc<AsyncMutex<Option<(Instant, OrderView)>>>;

/// The registration of one stream. Dropping it makes room for another.
pub struct OpenStream {
    order_id: OrderId,
    user_id: UserId,
    woken: watch::Receiver<Instant>,
    last: LastRead,
    streams: Streams,
}

/// Which limit is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TooMany {
    /// That of the buyer.
    OfBuyer,
    /// That of all buyers together.
    InAll,
}

impl Streams {
    /// Without streams. The metrics recorder has to be installed before.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            open: Mutex::default(),
            gauge: metrics::OPEN_STREAMS.only(),
            ending: CancellationToken::new(),
        }))
    }

    /// Listens for an order from now on.
    ///
    /// # Errors
    /// When there are too many streams.
    pub fn open(&self, order_id: OrderId, user_id: UserId) -> Result<OpenStream, TooMany> {
        let mut open = self.lock();
        let of_buyer = open.buyers.get(&user_id).copied().unwrap_or(0);
        let of_order = open.orders.get(&order_id);
        let of_order = of_order.and_then(|users| users.get(&user_id));
        let of_order = of_order.map_or(0, |entry| entry.streams);
        if of_buyer >= OF_BUYER_MAX || of_order >= OF_ORDER_MAX {
            return Err(TooMany::OfBuyer);
        }
        if open.total >= OPEN_MAX {
            return Err(TooMany::InAll);
        }
        open.total += 1;
        *open.buyers.entry(user_id).or_default() += 1;
        let users = open.orders.entry(order_id).or_default();
        let entry = users.entry(user_id).or_insert_with(Entry::new);
        entry.streams += 1;
        self.0.gauge.increment(1);
        Ok(OpenStream {
            order_id,
            user_id,
            woken: entry.woken.subscribe(),
            last: Arc::clone(&entry.last),
            streams: self.clone(),
        })
    }

    /// Wakes those who listen for an order: it has changed.
    pub fn wake(&self, order_id: OrderId) {
        if let Some(users) = self.lock().orders.get(&order_id) {
            for entry in users.values() {
                entry.woken.send_replace(Instant::now());
            }
        }
    }

    /// Ends all streams at shutdown: an event stream does not end by itself.
    pub fn end(&self) {
        self.0.ending.cancel();
    }

    /// Cancelled at shutdown.
    #[must_use]
    pub fn ending(&self) -> CancellationToken {
        self.0.ending.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Entry {
    fn new() -> Self {
        Self {
            streams: 0,
            woken: watch::Sender::new(Instant::now()),
            last: LastRead::default(),
        }
    }
}

impl OpenStream {
    /// The next change of the order that was not seen yet.
    pub async fn changed(&mut self) {
        // The sender lives in the list for as long as this does.
        if self.woken.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The order as `read` finds it, or as another stream has found it lately and since it changed.
    ///
    /// # Errors
    /// Those of `read`.
    pub async fn read<F>(&self, read: impl FnOnce() -> F) -> Result<Option<OrderView>, ReadError>
    where
        F: Future<Output = Result<Option<OrderView>, ReadError>>,
    {
        let mut last = self.last.lock().await;
        let changed = *self.woken.borrow();
        if let Some((begun, view)) = &*last
            && *begun > changed
            && begun.elapsed() < SHARED_FOR
        {
            return Ok(Some(view.clone()));
        }
        let begun = Instant::now();
        let found = read().await?;
        *last = found.clone().map(|view| (begun, view));
        Ok(found)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        open.total -= 1;
        self.streams.0.gauge.decrement(1);
        let leave = |count: &mut usize| {
            *count -= 1;
            *count == 0
        };
        if open.buyers.get_mut(&self.user_id).is_some_and(leave) {
            open.buyers.remove(&self.user_id);
        }
        if let Some(users) = open.orders.get_mut(&self.order_id) {
            let entry = users.get_mut(&self.user_id);
            if entry.is_some_and(|entry| leave(&mut entry.streams)) {
                users.remove(&self.user_id);
            }
            if users.is_empty() {
                open.orders.remove(&self.order_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::PendingOrder;
    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use seckill_domain::VoucherId;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn order(counter: u64) -> OrderId {
        OrderId::from_parts(VoucherId::new(7).unwrap(), 1, counter)
    }

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn view() -> OrderView {
        OrderView::Pending(PendingOrder::sample(order(1)))
    }

    #[test]
    fn only_those_who_listen_for_the_order_are_woken() {
        let streams = Streams::new();
        let mut first = streams.open(order(1), user(1)).unwrap();
        let mut also_first = streams.open(order(1), user(1)).unwrap();
        let mut second = streams.open(order(2), user(1)).unwrap();
        streams.wake(order(1));
        streams.wake(order(3));
        assert!(first.changed().now_or_never().is_some());
        assert!(also_first.changed().now_or_never().is_some());
        assert!(second.changed().now_or_never().is_none());
        assert!(first.changed().now_or_never().is_none(), "told once");
    }

    #[test]
    fn a_buyer_has_so_many_streams_and_takes_none_of_another_buyer() {
        let streams = Streams::new();
        let mut mine: Vec<OpenStream> = (0..OF_ORDER_MAX)
            .map(|_| streams.open(order(1), user(1)).unwrap())
            .collect();
        let refused = |order| streams.open(order, user(1)).err() == Some(TooMany::OfBuyer);
        assert!(refused(order(1)), "of one order");
        let others = (2..).map_while(|counter| streams.open(order(counter), user(1)).ok());
        mine.extend(others.take(OF_BUYER_MAX));
        assert_eq!(mine.len(), OF_BUYER_MAX);
        assert!(refused(order(99)), "of one buyer");
        assert!(streams.open(order(1), user(2)).is_ok());
        mine.pop();
        assert!(!refused(order(99)), "there is room again");
        drop(mine);
        let open = streams.lock();
        assert!(open.orders.is_empty() && open.buyers.is_empty() && open.total == 0);
    }

    #[tokio::test]
    async fn one_read_serves_all_streams_of_an_order() {
        let (streams, reads) = (Streams::new(), AtomicUsize::new(0));
        let open = || streams.open(order(1), user(1)).unwrap();
        let all: Vec<OpenStream> = (0..OF_ORDER_MAX).map(|_| open()).collect();
        let read = || async {
            reads.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(Some(view()))
        };
        for round in 1..=3 {
            streams.wake(order(1));
            let found = join_all(all.iter().map(|stream| stream.read(read))).await;
            assert!(found.into_iter().all(|found| found.unwrap().is_some()));
            assert_eq!(reads.load(Ordering::Relaxed), round);
        }
        let strangers = streams.open(order(1), user(2)).unwrap();
        assert!(strangers.read(async || Ok(None)).await.unwrap().is_none());
    }
}
