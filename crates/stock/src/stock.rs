//! The handle that callers keep.

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{Epoch, EventId, Offset, StockOp, Timestamp, UserId, VoucherId};

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::nodes::Nodes;
use crate::{
    Ack, Attempt, Hold, OutboxCursor, OutboxPage, Probe, ReserveReply, ReserveRequest, SettleReply,
    ShrinkReply, StockConnection, StockError, StockOptions, Survey,
};

/// Masters that were found out within this time are not asked for again by calls to all of them.
const LOCATED_LATELY: Duration = Duration::from_secs(1);
/// A clock that takes so much longer than the first is not waited for.
const CLOCK_LATE: Duration = Duration::from_millis(250);

/// The stock of all sales. Cheap to clone; clones share one connection a
/// master. Callers whose calls must not
/// wait for one another (hot path, reads, background) each make their own.
///
/// Every method's errors are [`StockError`]'s; what a sale answers is in the reply.
#[derive(Debug, Clone)]
pub struct Stock {
    nodes: Arc<Nodes>,
}

impl Stock {
    /// Reads the options; connects only when first used.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`] when the URL is none of Redis.
    pub fn new(options: StockOptions) -> Result<Self, StockError> {
        let nodes = Arc::new(Nodes::new(options)?);
        Ok(Self { nodes })
    }

    /// The current connection to the master that has a voucher's keys, or a new one if there is
    /// none or it has ended. The calls of one load ([`StockConnection::claim`] to
    /// [`StockConnection::open`]) have to share one.
    ///
    /// # Errors
    /// What making it failed with; who waited for another caller's attempt gets that one's error.
    pub async fn connection_for(
        &self,
        voucher: VoucherId,
    ) -> Result<Arc<StockConnection>, StockError> {
        self.nodes.connection_for(voucher).await
    }

    /// Asks every master the same. One that is away keeps nobody from the others.
    ///
    /// # Errors
    /// When one is misconfigured; as any call, when none of them answers.
    async fn ask_all<T, F>(
        &self,
        ask: impl Fn(Arc<StockConnection>) -> F,
    ) -> Result<Vec<T>, StockError>
    where
        F: Future<Output = Result<T, StockError>>,
    {
        let masters = self.nodes.located(LOCATED_LATELY).await?;
        let mut answers = Vec::with_capacity(masters.nodes.len());
        let mut failure = StockError::Misconfigured("Redis has no master".to_owned());
        for node in &masters.nodes {
            let answer = match self.nodes.connect(node).await {
                Ok(connection) => ask(connection).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) if error.is_lasting() => return Err(error),
                Err(error) => failure = error,
            }
        }
        if answers.is_empty() {
            return Err(failure);
        }
        Ok(answers)
    }

    /// Whether several masters share the sales, so that one of them can be away alone.
    pub async fn is_divided(&self) -> bool {
        let masters = self.nodes.located(LOCATED_LATELY).await;
        masters.is_ok_and(|masters| masters.nodes.len() > 1)
    }

    /// Checks what services need before they start, of every master that answers.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`] when one may evict keys; as any call, when none of them answers.
    pub async fn check_server(&self) -> Result<(), StockError> {
        let check =
            |connection: Arc<StockConnection>| async move { connection.check_server().await };
        self.ask_all(check).await.map(drop)
    }

    /// Checks that Redis takes writes now.
    ///
    /// # Errors
    /// The reason of a master, when none of them does.
    pub async fn check_writable(&self) -> Result<(), StockError> {
        let masters = self.nodes.located(LOCATED_LATELY).await?;
        let mut writable = Err(StockError::Misconfigured("Redis has no master".to_owned()));
        for node in &masters.nodes {
            writable = match self.nodes.connect(node).await {
                Ok(connection) => connection.check_writable().await,
                Err(error) => Err(error),
            };
            if writable.is_ok() {
                break;
            }
        }
        writable
    }

    /// Redis' clock: that of the first master that answers.
    ///
    /// # Errors
    /// As any call, when none of them does.
    pub async fn now(&self) -> Result<Timestamp, StockError> {
        let masters = self.nodes.located(LOCATED_LATELY).await?;
        let mut now = Err(StockError::Misconfigured("Redis has no master".to_owned()));
        for node in &masters.nodes {
            now = match self.nodes.connect(node).await {
                Ok(connection) => connection.now().await,
                Err(error) => Err(error),
            };
            if now.is_ok() {
                break;
            }
        }
        now
    }

    /// Redis' clock, which writes every `pay_by`: that of each master that answers about as fast as the
    /// first. One that hangs keeps nobody from the others' time, and makes it no less certain.
    ///
    /// # Errors
    /// As any call, when none of them does.
    pub async fn clocks(&self) -> Result<Vec<Timestamp>, StockError> {
        let masters = self.nodes.located(LOCATED_LATELY).await?;
        let mut asked = JoinSet::new();
        for node in &masters.nodes {
            let (nodes, node) = (Arc::clone(&self.nodes), Arc::clone(node));
            asked.spawn(async move { nodes.connect(&node).await?.now().await });
        }
        let mut clocks = Vec::with_capacity(masters.nodes.len());
        let mut failure = StockError::Misconfigured("Redis has no master".to_owned());
        let mut until = None;
        loop {
            let next = match until {
                None => asked.join_next().await,
                Some(until) => timeout_at(until, asked.join_next()).await.unwrap_or(None),
            };
            match next {
                Some(Ok(Ok(clock))) => {
                    clocks.push(clock);
                    until.get_or_insert(Instant::now() + CLOCK_LATE);
                }
                Some(Ok(Err(error))) => failure = error,
                // One that did not end well has panicked: its server has not answered.
                Some(Err(_)) => {}
                None => break,
            }
        }
        if clocks.is_empty() {
            return Err(failure);
        }
        Ok(clocks)
    }

    /// What many sales are at, over connections whose fences have just been read again.
    pub async fn survey(&self, vouchers: &[VoucherId]) -> Survey {
        Survey::take(&self.nodes, vouchers).await
    }

    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events, then decides up to
    /// [`crate::MAX_REQUESTS`] requests in order, all in one step.
    /// Without an answer it may be repeated with the same ids, by [`Self::reserve_again`].
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
        connection
            .reserve(voucher, requests, acks, Attempt::First)
            .await
    }

    /// [`Self::reserve`] once more after an attempt whose outcome is not known: gives what that one was
    /// granted, or grants it now, unless the user has had another order since.
    ///
    /// # Errors
    /// As [`Self::reserve`].
    pub async fn reserve_again(
        &self,
        voucher: VoucherId,
        requests: &[ReserveRequest],
        acks: &[Ack],
    ) -> Result<ReserveReply, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection
            .reserve(voucher, requests, acks, Attempt::Again)
            .await
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

    /// Clears up to [`crate::MAX_ITEMS`] acknowledged events. False: not served, nothing was cleared.
    ///
    /// # Errors
    /// As any call; [`StockError::Protocol`] for more items.
    pub async fn clear(&self, voucher: VoucherId, acks: &[Ack]) -> Result<bool, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.clear(voucher, acks).await
    }

    /// A page of the pending events that are at least so old, by Redis' clock. None: not served.
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

    /// What a sale is at and a user's hold, at one moment. One that is not served shows no hold.
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

    /// Whether the server that answers for a sale serves it and takes writes: a master that was cut
    /// off answers reads for as long as it lives.
    ///
    /// # Errors
    /// As any call: also [`StockError::Unavailable`] where it has too few replicas.
    pub async fn takes_writes(&self, voucher: VoucherId) -> Result<bool, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.takes_writes(voucher).await
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

    /// Takes a sale out of Redis that is closed, or whose window is over by Redis' clock, if nothing is
    /// unsettled or pending and every decision below `position` is settled; gives the position that it
    /// had, or none where it stays. Whether unpaid orders are left, and whether PostgreSQL has come that
    /// far, is the caller's to know.
    ///
    /// # Errors
    /// As any call.
    pub async fn retire(
        &self,
        voucher: VoucherId,
        position: Offset,
    ) -> Result<Option<Offset>, StockError> {
        let connection = self.connection_for(voucher).await?;
        connection.retire(voucher, position).await
    }
}
