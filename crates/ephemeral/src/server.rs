//! Where Redis is, by the same URLs as for stock: one server, the master that Sentinels name, or a
//! Cluster. Here nothing depends on which life of which server answers, so that the client's own
//! routing will do.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelNodeConnectionInfo, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, RedisFuture,
    RedisResult, Value,
};
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
        let parsed = if let Some(rest) = url.strip_prefix("redis+sentinel://") {
            sentinel(rest)
        } else if let Some(rest) = url.strip_prefix("redis+cluster://") {
            cluster(rest.trim_end_matches('/'))
        } else {
            info(url).and_then(Client::open).map(Self::One)
        };
        parsed.map_err(|error| EphemeralError::Misconfigured(error.to_string()))
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

fn info(url: &str) -> RedisResult<ConnectionInfo> {
    let tcp = TcpSettings::default().set_nodelay(true);
    Ok(url.into_connection_info()?.set_tcp_settings(tcp))
}

/// `[user:password@]host:port,host:port/master[/db][?sentinel_user=…&sentinel_password=…]`.
fn sentinel(rest: &str) -> RedisResult<Server> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    let (login, hosts) = split_login(authority);
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    let sentinel_login = value("sentinel_password").map(|password| {
        let user = value("sentinel_user").unwrap_or_default();
        format!("{user}:{password}@")
    });
    let sentinels = nodes(&sentinel_login.unwrap_or_default(), hosts)?;
    // Read as a URL of its own: what is in it is how to sign in to the master, and which database.
    let of_master = info(&format!("redis://{login}localhost/{database}"))?;
    let node = SentinelNodeConnectionInfo::default()
        .set_redis_connection_info(of_master.redis_settings().clone())
        .set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = SentinelClient::build(
        sentinels,
        master.to_owned(),
        Some(node),
        SentinelServerType::Master,
    )?;
    Ok(Server::Sentinel(Box::new(Mutex::new(client))))
}

/// `[user:password@]host:port,host:port`.
fn cluster(authority: &str) -> RedisResult<Server> {
    let (login, hosts) = split_login(authority);
    let client = ClusterClient::new(nodes(&login, hosts)?)?;
    Ok(Server::Cluster(Box::new(client)))
}

fn nodes(login: &str, hosts: &str) -> RedisResult<Vec<ConnectionInfo>> {
    hosts
        .split(',')
        .map(|host| info(&format!("redis://{login}{host}")))
        .collect()
}

/// The login with its `@`, and the hosts.
fn split_login(authority: &str) -> (String, &str) {
    match authority.rsplit_once('@') {
        Some((login, hosts)) => (format!("{login}@"), hosts),
        None => (String::new(), authority),
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
