//! The handle that callers keep: it makes the connection, and another when that one has ended.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::Client;
use seckill_domain::{Epoch, EventId, Offset, StockOp, Timestamp, UserId, VoucherId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{
    Ack, Hold, OutboxCursor, OutboxPage, Probe, ReserveReply, ReserveRequest, SettleReply,
    ShrinkReply, StockConnection, StockError, StockOptions,
};

/// The stock of all sales. Cheap to clone; clones share one connection. Callers whose calls must not
/// wait for one another (hot path, reads, background) each make their own.
///
/// Every method's errors are [`StockError`]'s; what a sale answers is in the reply.
#[derive(Debug, Clone)]
pub struct Stock {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: StockOptions,
    client: Client,
    current: RwLock<Option<Arc<StockConnection>>>,
    /// Held while a connection is made, so that one caller makes it for all; what the last attempt
    /// failed with, for those who waited for it.
    connecting: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    error: StockError,
}

impl Stock {
    /// Reads the options; connects only when first used.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`] when the URL is none of Redis.
    pub fn new(options: StockOptions) -> Result<Self, StockError> {
        let client = options.client()?;
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                client,
                current: RwLock::new(None),
                connecting: Mutex::new(None),
            }),
        })
    }

    /// The current connection, or a new one if there is none or it has ended. The calls of one load
    /// ([`StockConnection::claim`] to [`StockConnection::open`]) have to share one.
    ///
    /// # Errors
    /// What making it failed with; who waited for another caller's attempt gets that one's error.
    pub async fn connection(&self) -> Result<Arc<StockConnection>, StockError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let asked_at = Instant::now();
        let mut last_failure = self.inner.connecting.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(failure) = &*last_failure
            && failure.at >= asked_at
        {
            return Err(failure.error.clone());
        }
        let made = StockConnection::connect(&self.inner.client, &self.inner.options).await;
        match made {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let current = self.inner.current.write();
                *current.unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                tracing::warn!(%error, "cannot connect to Redis");
                *last_failure = Some(Failure {
                    at: Instant::now(),
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }

    fn usable(&self) -> Option<Arc<StockConnection>> {
        let current = self.inner.current.read();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|connection| connection.is_usable())
    }

    /// The connection to the node that has the voucher's keys: with one node, the one there is.
    async fn connection_for(&self, _: VoucherId) -> Result<Arc<StockConnection>, StockError> {
        self.connection().await
    }

    /// Checks what services need before they start.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`] when the server may evict keys, and as any call.
    pub async fn check_server(&self) -> Result<(), StockError> {
        self.connection().await?.check_server().await
    }

    /// Redis' clock, which writes every `pay_by`.
    ///
    /// # Errors
    /// As any call.
    pub async fn now(&self) -> Result<Timestamp, StockError> {
        self.connection().await?.now().await
    }

    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events, then decides up to
    /// [`crate::MAX_REQUESTS`] requests in order, all in one step. May be repeated with the same ids.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items.
    pub async fn reserve(
        &self,
        voucher: VoucherId,
        requests: &[ReserveRequest],
        acks: &[Ack],
    ) -> Result<ReserveReply, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.reserve(voucher, requests, acks).await
    }

    /// Takes `units`, at least 1, off a sale, open or closed, once for an event id.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for fewer than 1.
    pub async fn shrink(
        &self,
        voucher: VoucherId,
        event_id: EventId,
        units: i64,
    ) -> Result<ShrinkReply, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.shrink(voucher, event_id, units).await
    }

    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events. False: closed, nothing was cleared.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items.
    pub async fn clear(&self, voucher: VoucherId, acks: &[Ack]) -> Result<bool, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.clear(voucher, acks).await
    }

    /// A page of the pending events that are at least so old, by Redis' clock. None: closed.
    ///
    /// # Errors
    /// As any call.
    pub async fn outbox(
        &self,
        voucher: VoucherId,
        older_than: Duration,
        cursor: OutboxCursor,
    ) -> Result<Option<OutboxPage>, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.outbox(voucher, older_than, cursor).await
    }

    /// What a sale is at.
    ///
    /// # Errors
    /// As any call.
    pub async fn probe(&self, voucher: VoucherId) -> Result<Probe, StockError> {
        self.connection_for(voucher).await?.probe(voucher).await
    }

    /// What many sales are at, in order, in one round trip for each [`crate::MAX_ITEMS`].
    ///
    /// # Errors
    /// As any call.
    pub async fn probe_many(&self, vouchers: &[VoucherId]) -> Result<Vec<Probe>, StockError> {
        self.connection().await?.probe_many(vouchers).await
    }

    /// What a sale is at and a user's hold, at one moment. A closed sale shows no hold.
    ///
    /// # Errors
    /// As any call.
    pub async fn hold(
        &self,
        voucher: VoucherId,
        user: UserId,
    ) -> Result<(Probe, Option<Hold>), StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.hold(voucher, user).await
    }

    /// Carries up to [`crate::MAX_ITEMS`] decisions out: all of the voucher's from `from` up to, not
    /// including, `to`, in order. `epoch` is PostgreSQL's. Repeating it changes nothing.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items, or when they are not in order.
    pub async fn settle(
        &self,
        voucher: VoucherId,
        epoch: Epoch,
        from: Offset,
        to: Offset,
        ops: &[(Offset, StockOp)],
    ) -> Result<SettleReply, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.settle(voucher, epoch, from, to, ops).await
    }

    /// Takes a closed sale out of Redis, if nothing is unsettled or pending and every decision below
    /// `position` is settled; says whether it did. Whether unpaid orders are left is the caller's to
    /// know.
    ///
    /// # Errors
    /// As any call.
    pub async fn retire(&self, voucher: VoucherId, position: Offset) -> Result<bool, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.retire(voucher, position).await
    }
}
