//! Where Redis is, by the same URLs as for stock: one server, the master that Sentinels name, or a
//! Cluster. Here nothing depends on which life of which server answers, so that the client's own
//! routing will do.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, RedisFuture, RedisResult,
    TlsMode, Value,
};
use seckill_stock::{Access, Address, RedisServer, tcp_settings};
use std::time::Duration;
use tokio::sync::Mutex;

use crate::EphemeralError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// Whom to connect to.
pub(crate) enum Server {
    One(Box<Client>),
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
    /// `redis://…`, `redis+sentinel://…/master` or `redis+cluster://…`, over TLS with `rediss`.
    pub(crate) fn parse(server: &RedisServer) -> Result<Self, EphemeralError> {
        let address = Address::parse(server);
        let address = address.map_err(|error| EphemeralError::Misconfigured(error.to_string()))?;
        Self::at(address).map_err(|error| EphemeralError::Misconfigured(error.to_string()))
    }

    fn at(address: Address) -> RedisResult<Self> {
        Ok(match address {
            Address::Single(info) => Self::One(Box::new(Client::open(info)?)),
            Address::Sentinel {
                sentinels,
                master,
                access,
            } => {
                let client = sentinel_client(&sentinels, &master, access)?;
                Self::Sentinel(Box::new(Mutex::new(client)))
            }
            Address::Cluster { seeds, access } => {
                let client = ClusterClientBuilder::new(seeds);
                let client = match access.certificates {
                    Some(certificates) => client.certs(certificates),
                    None => client,
                };
                Self::Cluster(Box::new(client.build()?))
            }
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

fn sentinel_client(
    sentinels: &[ConnectionInfo],
    master: &str,
    access: Access,
) -> RedisResult<SentinelClient> {
    let addresses = sentinels.iter().map(|sentinel| sentinel.addr().clone());
    let mut client = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
        .set_client_to_redis_db(access.login.db())
        .set_client_to_redis_tcp_settings(tcp_settings())
        .set_client_to_sentinel_tcp_settings(tcp_settings());
    if let Some(user) = access.login.username() {
        client = client.set_client_to_redis_username(user);
    }
    if let Some(password) = access.login.password() {
        client = client.set_client_to_redis_password(password);
    }
    // All have the same.
    let own = sentinels.first().map(ConnectionInfo::redis_settings);
    if let Some(user) = own.and_then(|own| own.username()) {
        client = client.set_client_to_sentinel_username(user);
    }
    if let Some(password) = own.and_then(|own| own.password()) {
        client = client.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = access.certificates {
        client = client
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates);
    }
    client.build()
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
        let parse = |url: &str| Server::parse(&url.into()).ok();
        assert!(matches!(parse("redis://:s@a:1/2"), Some(Server::One(_))));
        let sentinel = "redis+sentinel://app:s%40cret@a:1,b:2/sale/4?sentinel_password=x";
        assert!(matches!(parse(sentinel), Some(Server::Sentinel(_))));
        let cluster = "redis+cluster://:secret@a:1,b";
        assert!(matches!(parse(cluster), Some(Server::Cluster(_))));
        let over_tls = "rediss+sentinel://app:s%40cret@a:1,b:2/sale/4?sentinel_password=x";
        assert!(matches!(parse(over_tls), Some(Server::Sentinel(_))));
        let over_tls = "rediss+cluster://:secret@a:1,b";
        assert!(matches!(parse(over_tls), Some(Server::Cluster(_))));
        assert!(parse("http://a").is_none());
    }
}
