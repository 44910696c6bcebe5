//! The handle that callers keep.

use std::sync::Arc;
use std::time::Duration;

use seckill_domain::{Timestamp, VoucherId};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::calls::survey::Survey;
use crate::redis::connection::{StockConnection, StockOptions};
use crate::redis::error::StockError;
use crate::redis::nodes::Nodes;
use crate::redis::server::MasterServer;

/// How much longer than for the first clock the others are waited for.
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
    /// [`StockError::Misconfigured`] when the URL is not one of Redis.
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

    /// Asks every master the same. A master that does not answer does not delay the others.
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
        let masters = self.nodes.masters().await?;
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
        let masters = self.nodes.masters().await;
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

    /// Asks every master what it is.
    ///
    /// # Errors
    /// When it cannot be found out who is master.
    pub async fn servers(&self) -> Result<Vec<MasterServer>, StockError> {
        let masters = self.nodes.masters().await?;
        let mut servers = Vec::with_capacity(masters.nodes.len());
        for node in &masters.nodes {
            let told = match self.nodes.connect(node).await {
                Ok(connection) => connection.facts().await,
                Err(error) => Err(error),
            };
            let address = node.address();
            servers.push(MasterServer { address, told });
        }
        Ok(servers)
    }

    /// Checks that Redis takes writes now.
    ///
    /// # Errors
    /// The reason of a master, when none of them does.
    pub async fn check_writable(&self) -> Result<(), StockError> {
        let masters = self.nodes.masters().await?;
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
        let masters = self.nodes.masters().await?;
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

    /// Redis' clock, which is used for every `pay_by`: the time of each master that answers about as fast as
    /// the first. A master that hangs delays nothing, and does not make the result less certain.
    ///
    /// # Errors
    /// As any call, when none of them does.
    pub async fn clocks(&self) -> Result<Vec<Timestamp>, StockError> {
        let masters = self.nodes.masters().await?;
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
                // A task that ended with an error has panicked: its server has not answered.
                Some(Err(_)) => {}
                None => break,
            }
        }
        if clocks.is_empty() {
            return Err(failure);
        }
        Ok(clocks)
    }

    /// The state of many sales, over connections whose fences have just been read again.
    pub async fn survey(&self, vouchers: &[VoucherId]) -> Survey {
        Survey::take(&self.nodes, vouchers).await
    }
}
