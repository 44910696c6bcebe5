//! Where Redis is, by the same URLs as for stock: one server, the master that Sentinels name, or a
//! Cluster. Here nothing depends on which life of which server answers, so that the client's own
//! routing will do.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, RedisFuture, RedisResult, Value};
use seckill_stock::{Address, tcp_settings};
use std::time::Duration;
use tokio::sync::Mutex;

use crate::EphemeralError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Whom to connect to.
pub(crate) enum Server {
    One(Client),
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

/// A connection, of either kind.
#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Server {
    /// `redis://…`, `redis+sentinel://…/master` or `redis+cluster://…`.
    pub(crate) fn parse(url: &str) -> Result<Self, EphemeralError> {
        let address = Address::parse(url);
        let address = address.map_err(|error| EphemeralError::Misconfigured(error.to_string()))?;
        Self::at(address).map_err(|error| EphemeralError::Misconfigured(error.to_string()))
    }

    fn at(address: Address) -> RedisResult<Self> {
        Ok(match address {
            Address::Single(info) => Self::One(Client::open(info)?),
            Address::Sentinel {
                sentinels,
                master,
                login,
            } => {
                let node = SentinelNodeConnectionInfo::default()
                    .set_redis_connection_info(login)
                    .set_tcp_settings(tcp_settings());
                let kind = SentinelServerType::Master;
                let client = SentinelClient::build(sentinels, master, Some(node), kind)?;
                Self::Sentinel(Box::new(Mutex::new(client)))
            }
            Address::Cluster { seeds, .. } => Self::Cluster(Box::new(ClusterClient::new(seeds)?)),
        })
    }

    pub(crate) async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        match self {
            Self::One(client) => {
                let connection = client.get_multiplexed_async_connection_with_config(&config);
                connection.await.map(Connection::One)
            }
            Self::Sentinel(client) => {
                let mut client = client.lock().await;
                let connection = client.get_async_connection_with_config(&config);
                connection.await.map(Connection::One)
            }
            Self::Cluster(client) => {
                let config = ClusterConfig::new()
                    .set_connection_timeout(CONNECT_TIMEOUT)
                    .set_response_timeout(RESPONSE_TIMEOUT);
                let connection = client.get_async_connection_with_config(config);
                connection.await.map(Connection::Cluster)
            }
        }
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_forms_are_told_apart() {
        let parse = |url: &str| Server::parse(url).ok();
        assert!(matches!(parse("redis://:s@a:1/2"), Some(Server::One(_))));
        let sentinel = "redis+sentinel://app:s%40cret@a:1,b:2/sale/4?sentinel_password=x";
        assert!(matches!(parse(sentinel), Some(Server::Sentinel(_))));
        let cluster = "redis+cluster://:secret@a:1,b";
        assert!(matches!(parse(cluster), Some(Server::Cluster(_))));
        assert!(parse("http://a").is_none());
    }
}
