//! Where Redis is, as its URL says: one server, the master that Sentinels name, or a Cluster.

use std::fmt;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::StockError;

const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(15);

const SENTINEL_FORM: &str = "redis+sentinel://[user:password@]host:port,host:port/master[/db]\
                             [?sentinel_user=…&sentinel_password=…]";
const CLUSTER_FORM: &str = "redis+cluster://[user:password@]host:port,host:port";

/// A parsed URL.
#[derive(Clone)]
pub enum Address {
    /// `redis://[user:password@]host:port[/db]`.
    Single(ConnectionInfo),
    /// The sentinels, the name of the master that they watch, and how to sign in to it.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name of the master.
        master: String,
        /// How to sign in to the master, and which database.
        login: RedisConnectionInfo,
    },
    /// Some nodes, and how to sign in to all.
    Cluster {
        /// Some nodes.
        seeds: Vec<ConnectionInfo>,
        /// How to sign in to any node.
        login: RedisConnectionInfo,
    },
}

/// The kind alone: all else may be, or have beside it, a password.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Single(_) => "Single",
            Self::Sentinel { .. } => "Sentinel",
            Self::Cluster { .. } => "Cluster",
        })
    }
}

impl Address {
    /// Reads any of the three forms.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`], with the form that it is not.
    pub fn parse(url: &str) -> Result<Self, StockError> {
        if let Some(rest) = url.strip_prefix("redis+sentinel://") {
            parse_sentinel(rest)
                .ok_or_else(|| StockError::Misconfigured(format!("not {SENTINEL_FORM}")))
        } else if let Some(rest) = url.strip_prefix("redis+cluster://") {
            parse_cluster(rest)
                .ok_or_else(|| StockError::Misconfigured(format!("not {CLUSTER_FORM}")))
        } else {
            let info = url.into_connection_info();
            info.map(|info| Self::Single(info.set_tcp_settings(tcp_settings())))
                .map_err(|error| StockError::Misconfigured(error.to_string()))
        }
    }
}

/// Whether `url` is one of the three forms of [`Address::parse`].
///
/// # Errors
/// The form that it is not, without the password that may be in it.
pub fn check_url(url: &str) -> Result<(), StockError> {
    Address::parse(url).map(drop)
}

/// A server found under an address, to be signed in to with `login`.
pub(crate) fn server(
    host: &str,
    port: u16,
    login: &RedisConnectionInfo,
) -> Result<ConnectionInfo, StockError> {
    let address = ConnectionAddr::Tcp(host.to_owned(), port);
    let info = address.into_connection_info()?;
    Ok(info
        .set_redis_settings(login.clone())
        .set_tcp_settings(tcp_settings()))
}

/// As every connection to Redis is made: no delay, and a look at whether the other side lives.
#[must_use]
pub fn tcp_settings() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

fn parse_sentinel(rest: &str) -> Option<Address> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/')?;
    let (master, database) = match path.split_once('/') {
        Some((master, database)) => (master, Some(database)),
        None => (path, None),
    };
    if master.is_empty() {
        return None;
    }
    let (login, hosts) = split_login(authority);
    let (mut user, mut password) = ("", None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("sentinel_user", value) => user = value,
            ("sentinel_password", value) => password = Some(value),
            _ => return None,
        }
    }
    let sentinel_login = match password {
        Some(password) => Some(format!("{user}:{password}")),
        None if user.is_empty() => None,
        None => return None,
    };
    let masters = servers(login, hosts, database)?;
    Some(Address::Sentinel {
        sentinels: servers(sentinel_login.as_deref(), hosts, None)?,
        master: master.to_owned(),
        login: masters.first()?.redis_settings().clone(),
    })
}

fn parse_cluster(rest: &str) -> Option<Address> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?']) {
        return None;
    }
    let (login, hosts) = split_login(authority);
    let seeds = servers(login, hosts, None)?;
    let login = seeds.first()?.redis_settings().clone();
    Some(Address::Cluster { seeds, login })
}

fn split_login(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    }
}

/// Each host as a URL of its own, which is read as any other.
fn servers(
    login: Option<&str>,
    hosts: &str,
    database: Option<&str>,
) -> Option<Vec<ConnectionInfo>> {
    let login = login.map_or_else(String::new, |login| format!("{login}@"));
    let database = database.map_or_else(String::new, |database| format!("/{database}"));
    let server = |host: &str| {
        let url = format!("redis://{login}{host}{database}");
        let info = url.into_connection_info().ok()?;
        Some(info.set_tcp_settings(tcp_settings()))
    };
    hosts.split(',').map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(servers: &[ConnectionInfo]) -> Vec<String> {
        servers.iter().map(|s| s.addr().to_string()).collect()
    }

    #[test]
    fn sentinels_have_their_own_password_and_the_master_has_its() {
        let url = "redis+sentinel://app:s%40cret@a:1,b:2,[::1]:3/sale/4?sentinel_password=x";
        let Ok(Address::Sentinel {
            sentinels,
            master,
            login,
        }) = Address::parse(url)
        else {
            panic!("it is one");
        };
        assert_eq!(names(&sentinels), ["a:1", "b:2", "::1:3"]);
        assert_eq!(master, "sale");
        assert_eq!(
            (login.username(), login.password()),
            (Some("app"), Some("s@cret"))
        );
        assert_eq!(login.db(), 4);
        let own = sentinels[0].redis_settings();
        assert_eq!(
            (own.username(), own.password(), own.db()),
            (None, Some("x"), 0)
        );
    }

    #[test]
    fn a_cluster_is_a_list_of_nodes() {
        let Ok(Address::Cluster { seeds, login }) = Address::parse("redis+cluster://:secret@a:1,b")
        else {
            panic!("it is one");
        };
        assert_eq!(names(&seeds), ["a:1", "b:6379"]);
        assert_eq!(login.password(), Some("secret"));
    }

    #[test]
    fn what_is_none_of_the_three_is_named_without_its_password() {
        for url in [
            "http://hunter2@a",
            "redis+sentinel://hunter2:hunter2@a:1",
            "redis+sentinel://:hunter2@a:1/",
            "redis+sentinel://:hunter2@a:1/m?password=x",
            "redis+sentinel://:hunter2@a:1/m?sentinel_user=x",
            "redis+sentinel://:hunter2@a:1,,b:1/m",
            "redis+cluster://:hunter2@a:x",
            "redis+cluster://:hunter2@a:1/3",
            "redis+cluster://",
        ] {
            let Err(StockError::Misconfigured(why)) = Address::parse(url) else {
                panic!("{url} is refused");
            };
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
