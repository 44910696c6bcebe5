//! What the projector decided, told to whoever waits for that very order. Each process follows the
//! outcomes once; an outcome costs one look-up, however many streams are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seckill_domain::{OrderId, Outcome, VoucherId};
use seckill_eventlog::{KafkaSettings, ReadError, Record, decode_outcome, tail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::reads::Reads;

/// Outcomes that may wait to be handed out.
const BUFFER_RECORDS: usize = 1_000;

/// The open streams by order. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<OrderId, watch::Sender<i64>>>>);

/// One stream's ear. Dropping it takes the order off the list if nobody else listens.
#[derive(Debug)]
pub struct Subscription {
    order_id: OrderId,
    versions: watch::Receiver<i64>,
    watchers: Watchers,
}

impl Watchers {
    /// Listens for `order_id` from now on.
    #[must_use]
    pub fn subscribe(&self, order_id: OrderId) -> Subscription {
        let mut senders = self.lock();
        let sender = senders
            .entry(order_id)
            .or_insert_with(|| watch::Sender::new(0));
        Subscription {
            order_id,
            versions: sender.subscribe(),
            watchers: self.clone(),
        }
    }

    /// Wakes those who listen for `order_id`.
    pub fn notify(&self, order_id: OrderId, version: i64) {
        if let Some(sender) = self.lock().get(&order_id) {
            sender.send_replace(version);
        }
    }

    /// Follows the outcome topic until `stop`: hands out the versions of orders, and drops this
    /// process' copies of the sales that have changed.
    ///
    /// # Errors
    /// When the topic's end cannot be found, or reading breaks off.
    pub async fn follow(
        self,
        settings: KafkaSettings,
        outcomes_topic: String,
        reads: Reads,
        stop: CancellationToken,
    ) -> Result<(), ReadError> {
        let mut records = tail(&settings, &outcomes_topic, BUFFER_RECORDS).await?;
        while let Some(next) = stop.run_until_cancelled(records.recv()).await {
            let ended = || ReadError::Thread("it ended".to_owned());
            let record = next.unwrap_or_else(|| Err(ended()))?;
            if let Some(changed) = self.hand_out(&record) {
                reads.forget(changed).await;
            }
        }
        Ok(())
    }

    /// Gives the sale that has changed, if one has.
    fn hand_out(&self, record: &Record) -> Option<VoucherId> {
        match decode_outcome(record.payload.as_deref().unwrap_or_default()) {
            Ok(decoded) => match decoded.outcome {
                Outcome::Order(order) => self.notify(order.order_id, order.version),
                // The order is read again: now its refund is due.
                Outcome::Refund(refund) => self.notify(refund.order_id, 0),
                Outcome::Sale(_) => return Some(decoded.voucher_id),
            },
            // Streams read their order again every few seconds without a wake-up.
            Err(error) => tracing::warn!(
                partition = record.partition,
                offset = record.offset.get(),
                %error,
                "an outcome cannot be read"
            ),
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, watch::Sender<i64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// The next outcome of the order that was not seen yet.
    pub async fn changed(&mut self) {
        // The sender lives in the list for as long as this subscription does.
        if self.versions.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut senders = self.watchers.lock();
        let last = senders
            .get(&self.order_id)
            // This one is still counted.
            .is_some_and(|sender| sender.receiver_count() <= 1);
        if last {
            senders.remove(&self.order_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn order(counter: u64) -> OrderId {
        OrderId::from_parts(VoucherId::new(7).unwrap(), 1, counter)
    }

    #[test]
    fn only_those_who_listen_for_the_order_are_woken() {
        let watchers = Watchers::default();
        let mut first = watchers.subscribe(order(1));
        let mut also_first = watchers.subscribe(order(1));
        let mut second = watchers.subscribe(order(2));
        watchers.notify(order(1), 1);
        watchers.notify(order(3), 1);
        assert!(first.changed().now_or_never().is_some());
        assert!(also_first.changed().now_or_never().is_some());
        assert!(second.changed().now_or_never().is_none());
        assert!(first.changed().now_or_never().is_none(), "told once");
    }

    #[test]
    fn an_order_is_forgotten_with_its_last_listener() {
        let watchers = Watchers::default();
        let first = watchers.subscribe(order(1));
        let second = watchers.subscribe(order(1));
        drop(first);
        assert_eq!(watchers.lock().len(), 1);
        drop(second);
        assert!(watchers.lock().is_empty());
    }
}
