//! The servers that store the sales, and one connection to each of them.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::{Client, ConnectionInfo};
use seckill_domain::VoucherId;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::redis::address::Address;
use crate::redis::connection::{StockConnection, StockOptions};
use crate::redis::error::StockError;
use crate::redis::sentinel;
use crate::redis::slots::SlotMap;

/// A call for one sale that needs a new connection first finds out which server is the master, unless that was done
/// within this time.
const MASTERS_KNOWN_FOR: Duration = Duration::from_millis(100);
/// The same for calls to all masters. They are made regularly and only read, so a master that was cut off would go on
/// answering them without an error.
const MASTERS_KNOWN_FOR_READS: Duration = Duration::from_secs(1);

/// One server, and the connection to it if there is one.
#[derive(Debug)]
pub(crate) struct Node {
    client: Client,
    deployment: Deployment,
    current: RwLock<Option<Arc<StockConnection>>>,
    /// Locked while a connection is made, so that one caller makes it for all. Contains the error of the last failed
    /// attempt, for the callers that have waited for it.
    connecting: Mutex<Option<Failure>>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    error: StockError,
}

impl Node {
    fn new(server: ConnectionInfo, deployment: Deployment) -> Result<Self, StockError> {
        Ok(Self {
            client: Client::open(server)?,
            deployment,
            current: RwLock::new(None),
            connecting: Mutex::new(None),
        })
    }

    fn is_at(&self, server: &ConnectionInfo) -> bool {
        self.client.get_connection_info().addr().to_string() == server.addr().to_string()
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        self.client.get_connection_info().addr().to_string()
    }

    /// The current connection, if it may still be used.
    fn usable(&self) -> Option<Arc<StockConnection>> {
        let current = self.current.read();
        let current = current.unwrap_or_else(PoisonError::into_inner);
        current.clone().filter(|connection| connection.is_usable())
    }

    /// The current connection or a new one. A caller that has waited for the attempt of another one gets the error of
    /// that attempt.
    async fn connect(&self, options: &StockOptions) -> Result<Arc<StockConnection>, StockError> {
        let asked_at = Instant::now();
        let mut last_failure = self.connecting.lock().await;
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        if let Some(failure) = &*last_failure
            && failure.at >= asked_at
        {
            return Err(failure.error.clone());
        }
        match StockConnection::connect(&self.client, self.deployment, options).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let current = self.current.write();
                *current.unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                let server = self.client.get_connection_info().addr();
                tracing::warn!(%server, %error, "cannot connect to Redis");
                *last_failure = Some(Failure {
                    at: Instant::now(),
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }
}

/// How Redis runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deployment {
    Single,
    /// With the sentinels' count of failovers, which is part of the fence.
    Sentinel {
        config_epoch: u64,
    },
    Cluster,
}

/// The masters, the kind of deployment of each and, in a Cluster, the owner of each slot.
struct Located {
    masters: Vec<(ConnectionInfo, Deployment)>,
    slots: Option<SlotMap>,
}

/// The masters, as they were found the last time.
#[derive(Debug)]
pub(crate) struct Masters {
    pub(crate) nodes: Vec<Arc<Node>>,
    /// None if there is only one node, which stores all sales.
    slots: Option<SlotMap>,
}

impl Masters {
    /// The index in `nodes` of the node that stores a voucher's sale.
    pub(crate) fn place_of(&self, voucher: VoucherId) -> Result<usize, StockError> {
        match &self.slots {
            None => Ok(0),
            Some(slots) => slots.owner_of(voucher).ok_or_else(|| {
                let no_owner = "no master of the Cluster has this slot";
                StockError::Unavailable((redis::ErrorKind::Client, no_owner).into())
            }),
        }
    }
}

/// Finds the masters, and keeps the connections to them.
#[derive(Debug)]
pub(crate) struct Nodes {
    options: StockOptions,
    address: Address,
    masters: RwLock<Option<Arc<Masters>>>,
    /// Locked while the masters are looked for. Contains when the last search ended, and its result.
    locating: Mutex<Option<(Instant, Result<(), StockError>)>>,
}

impl Nodes {
    pub(crate) fn new(options: StockOptions) -> Result<Self, StockError> {
        let address = Address::parse(&options.server)?;
        let masters = match &address {
            Address::Single(server) => Some(Arc::new(Masters {
                nodes: vec![Arc::new(Node::new(server.clone(), Deployment::Single)?)],
                slots: None,
            })),
            Address::Sentinel { .. } | Address::Cluster { .. } => None,
        };
        Ok(Self {
            options,
            address,
            masters: RwLock::new(masters),
            locating: Mutex::new(None),
        })
    }

    /// The connection to the master that has a voucher's keys. Before a new connection is made, or one is used again
    /// that was silent for long, the masters are looked for: the former master may be cut off and not know it.
    pub(crate) async fn connection_for(
        &self,
        voucher: VoucherId,
    ) -> Result<Arc<StockConnection>, StockError> {
        let known = self.known();
        if let Some(masters) = known
            && let Ok(place) = masters.place_of(voucher)
            && let Some(connection) = masters.nodes[place].usable()
            && connection.is_trusted()
        {
            return Ok(connection);
        }
        let masters = self.located(MASTERS_KNOWN_FOR).await?;
        let node = &masters.nodes[masters.place_of(voucher)?];
        self.connect(node).await
    }

    /// The current connection to a node that was just found to be master, or a new one.
    pub(crate) async fn connect(&self, node: &Node) -> Result<Arc<StockConnection>, StockError> {
        if let Some(connection) = node.usable() {
            // If the connection is not trusted, the fence is read again, which ends the connection if it has changed.
            let usable =
                connection.is_trusted() || connection.fence_still_holds().await.unwrap_or(false);
            if usable {
                return Ok(connection);
            }
        }
        node.connect(&self.options).await
    }

    /// The masters, for a call to all of them.
    ///
    /// # Errors
    /// Why the masters could not be found.
    pub(crate) async fn masters(&self) -> Result<Arc<Masters>, StockError> {
        self.located(MASTERS_KNOWN_FOR_READS).await
    }

    /// The masters. They are looked for again unless that was done within `lately`.
    async fn located(&self, lately: Duration) -> Result<Arc<Masters>, StockError> {
        if !matches!(self.address, Address::Single(_)) {
            let asked_at = Instant::now();
            let mut last = self.locating.lock().await;
            let fresh = |at: Instant| at >= asked_at || at.elapsed() < lately;
            let result = match &*last {
                Some((at, result)) if fresh(*at) => result.clone(),
                _ => {
                    let result = self.locate().await;
                    *last = Some((Instant::now(), result.clone()));
                    result
                }
            };
            result?;
        }
        self.known().ok_or_else(|| {
            let nobody = (redis::ErrorKind::Client, "no master is known");
            StockError::Unavailable(nobody.into())
        })
    }

    fn known(&self) -> Option<Arc<Masters>> {
        let masters = self.masters.read();
        masters.unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn locate(&self) -> Result<(), StockError> {
        let located = self.ask_for_masters().await;
        if let Err(error) = &located {
            tracing::warn!(%error, "cannot find out who is master");
        }
        let Located { masters, slots } = located?;
        let known = self.known();
        let same = |server: &ConnectionInfo, deployment| {
            let mut nodes = known.as_ref()?.nodes.iter();
            nodes.find(|node| node.is_at(server) && node.deployment == deployment)
        };
        let mut nodes = Vec::with_capacity(masters.len());
        for (server, deployment) in masters {
            nodes.push(match same(&server, deployment) {
                Some(node) => Arc::clone(node),
                None => {
                    tracing::info!(master = %server.addr(), ?deployment, "Redis has a master here");
                    Arc::new(Node::new(server, deployment)?)
                }
            });
        }
        let masters = Some(Arc::new(Masters { nodes, slots }));
        *self.masters.write().unwrap_or_else(PoisonError::into_inner) = masters;
        Ok(())
    }

    async fn ask_for_masters(&self) -> Result<Located, StockError> {
        let (servers, deployment, slots) = match &self.address {
            Address::Single(server) => (vec![server.clone()], Deployment::Single, None),
            Address::Sentinel {
                sentinels,
                master,
                access,
            } => {
                let named = sentinel::master(sentinels, master, &self.options).await?;
                let server = access.server(&named.host, named.port)?;
                let config_epoch = named.config_epoch;
                (vec![server], Deployment::Sentinel { config_epoch }, None)
            }
            Address::Cluster { seeds, access } => {
                // The nodes that were found before are asked too, as those of the URL may no longer exist.
                let mut asked = seeds.clone();
                for node in self.known().iter().flat_map(|masters| &masters.nodes) {
                    if !seeds.iter().any(|seed| node.is_at(seed)) {
                        asked.push(node.client.get_connection_info().clone());
                    }
                }
                let slots = SlotMap::fetch(&asked, &self.options).await?;
                (slots.servers(access)?, Deployment::Cluster, Some(slots))
            }
        };
        Ok(Located {
            masters: servers.into_iter().map(|s| (s, deployment)).collect(),
            slots,
        })
    }
}
