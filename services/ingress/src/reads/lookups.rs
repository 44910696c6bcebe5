//! Looks orders up in PostgreSQL, those that are asked for at the same moment together. A decision on many orders
//! wakes all of their streams at once, and each stream reads its order again every few seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use seckill_domain::OrderId;
use seckill_orderbook::Orderbook;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::ReadError;
use super::orders::{OrderView, decided};

/// The most orders that are looked up together.
const BATCH: usize = 512;
/// Batches at a time.
const IN_FLIGHT: usize = 4;
/// How long orders that are asked for after a batch has begun wait for others.
const GATHER: Duration = Duration::from_millis(5);
/// More wait before they are queued.
const QUEUE: usize = 4_096;

/// What a batch finds: of its orders, those that there are.
type Found = Result<HashMap<OrderId, OrderView>, ReadError>;

struct Lookup {
    id: OrderId,
    answer: oneshot::Sender<Result<Option<OrderView>, ReadError>>,
}

/// The queue of orders to look up.
pub(super) struct Lookups(mpsc::Sender<Lookup>);

impl Lookups {
    /// Looks up on `runtime` until this is dropped.
    pub(super) fn new(orderbook: Orderbook, runtime: &Handle) -> Self {
        Self::by(runtime, move |ids| find(orderbook.clone(), ids))
    }

    fn by<F>(runtime: &Handle, find: impl Fn(Vec<OrderId>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Found> + Send + 'static,
    {
        let (queue, asked) = mpsc::channel(QUEUE);
        runtime.spawn(run(asked, find));
        Self(queue)
    }

    /// The order as it is after this call began; none if the view does not have it.
    ///
    /// # Errors
    /// When PostgreSQL does not answer.
    pub(super) async fn find(&self, id: OrderId) -> Result<Option<OrderView>, ReadError> {
        let ended = || ReadError::Defect("looking the order up broke off".to_owned());
        let (answer, found) = oneshot::channel();
        let sent = self.0.send(Lookup { id, answer }).await;
        sent.map_err(|_| ended())?;
        found.await.unwrap_or_else(|_| Err(ended()))
    }
}

async fn run<F>(
    mut queue: mpsc::Receiver<Lookup>,
    find: impl Fn(Vec<OrderId>) -> F + Send + Sync + 'static,
) where
    F: Future<Output = Found> + Send + 'static,
{
    let find = Arc::new(find);
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    // `acquire_owned` fails only on a closed semaphore, and this one is never closed.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let mut batch = Vec::new();
        if queue.recv_many(&mut batch, BATCH).await == 0 {
            return;
        }
        let find = Arc::clone(&find);
        tokio::spawn(async move {
            let found = find(batch.iter().map(|lookup| lookup.id).collect()).await;
            let is_one_bad = batch.len() > 1 && matches!(found, Err(ReadError::Defect(_)));
            for Lookup { id, answer } in batch {
                let known = if is_one_bad {
                    // A row that cannot be read takes no answer from the others.
                    find(vec![id]).await.map(|mut orders| orders.remove(&id))
                } else {
                    let known = found.as_ref().map(|orders| orders.get(&id).cloned());
                    known.map_err(Clone::clone)
                };
                // Whoever asked may be gone.
                let _ = answer.send(known);
            }
            drop(slot);
        });
        if queue.len() < BATCH {
            tokio::time::sleep(GATHER).await;
        }
    }
}

async fn find(orderbook: Orderbook, ids: Vec<OrderId>) -> Found {
    let orders = orderbook.orders(&ids).await?;
    Ok(decided(&orderbook, orders).await?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use futures_util::future::join_all;
    use seckill_domain::VoucherId;

    use super::*;
    use crate::reads::PendingOrder;

    fn id(counter: u64) -> OrderId {
        OrderId::from_parts(VoucherId::new(7).unwrap(), 1, counter)
    }

    /// How many orders each batch asked for. It finds those with an even number, and others get their turn meanwhile.
    fn counted() -> (Lookups, Arc<Mutex<Vec<usize>>>) {
        let statements = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&statements);
        let find = move |ids: Vec<OrderId>| {
            seen.lock().unwrap().push(ids.len());
            async move {
                tokio::task::yield_now().await;
                let even = ids.into_iter().filter(|id| id.as_uuid().as_u128() % 2 == 0);
                Ok(even.map(|id| (id, known(id))).collect())
            }
        };
        (Lookups::by(&Handle::current(), find), statements)
    }

    /// Whether each statement was full, or was followed by a pause in which others could come.
    fn are_shared(statements: &[usize], took: Duration) {
        let not_full = statements.iter().filter(|orders| **orders < BATCH).count();
        let pauses = took.as_millis() / GATHER.as_millis();
        assert!(not_full as u128 <= pauses + 1, "{took:?}: {statements:?}");
        assert!(statements.iter().all(|orders| *orders <= BATCH));
    }

    fn known(id: OrderId) -> OrderView {
        OrderView::Pending(PendingOrder::sample(id))
    }

    #[tokio::test]
    async fn ten_thousand_that_are_asked_for_at_once_take_few_statements_and_each_gets_its_own() {
        let (lookups, statements) = counted();
        let begun = Instant::now();
        let found = join_all((0..10_000).map(|n| lookups.find(id(n)))).await;
        for (n, found) in (0..).zip(found) {
            assert_eq!(found.unwrap(), (n % 2 == 0).then(|| known(id(n))));
        }
        are_shared(&statements.lock().unwrap(), begun.elapsed());
    }

    #[tokio::test]
    async fn those_that_come_one_after_the_other_share_statements_too() {
        let (lookups, statements) = counted();
        let begun = Instant::now();
        let come = (0..200).map(|n| {
            let lookups = &lookups;
            async move {
                tokio::time::sleep(Duration::from_micros(500 * n)).await;
                lookups.find(id(n)).await
            }
        });
        assert!(join_all(come).await.iter().all(Result::is_ok));
        are_shared(&statements.lock().unwrap(), begun.elapsed());
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_read_takes_no_answer_from_the_others() {
        let find = |ids: Vec<OrderId>| async move {
            if ids.contains(&id(1)) {
                return Err(ReadError::Defect("not a row of the fold".to_owned()));
            }
            Ok(ids.into_iter().map(|id| (id, known(id))).collect())
        };
        let lookups = Lookups::by(&Handle::current(), find);
        let found = join_all((0..3).map(|n| lookups.find(id(n)))).await;
        assert_eq!(found[0].as_ref().unwrap(), &Some(known(id(0))));
        assert!(found[1].is_err());
        assert_eq!(found[2].as_ref().unwrap(), &Some(known(id(2))));
    }

    #[tokio::test]
    async fn everybody_is_told_of_a_failure() {
        let failed = || ReadError::Orderbook("it does not answer".to_owned());
        let lookups = Lookups::by(&Handle::current(), move |_| async move { Err(failed()) });
        let asked = join_all((0..3).map(|n| lookups.find(id(n)))).await;
        assert!(asked.iter().all(Result::is_err), "{asked:?}");
    }
}
