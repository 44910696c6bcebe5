//! Parses `REDIS_URL`: one server, a master that Sentinels watch, or a Cluster.

use std::fmt;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::redis::error::StockError;
use crate::redis::tls::{Access, RedisServer};

const KEEPALIVE: std::time::Duration = std::time::Duration::from_secs(15);

const SENTINEL_FORM: &str = "redis+sentinel://[user:password@]host:port,host:port/master[/db]\
                             [?sentinel_user=…&sentinel_password=…], over TLS rediss+sentinel://…";
const CLUSTER_FORM: &str =
    "redis+cluster://[user:password@]host:port,host:port, over TLS rediss+cluster://…";

/// A parsed URL, with the files that belong to it.
#[derive(Clone)]
pub enum Address {
    /// `redis://[user:password@]host:port[/db]`.
    Single(ConnectionInfo),
    /// The sentinels, the name of the master that they watch, and how to reach it.
    Sentinel {
        /// The sentinels.
        sentinels: Vec<ConnectionInfo>,
        /// The name of the master.
        master: String,
        /// How to reach the master.
        access: Access,
    },
    /// Some nodes of a Cluster, and how to reach any of its nodes.
    Cluster {
        /// Some nodes.
        seeds: Vec<ConnectionInfo>,
        /// How to reach any node.
        access: Access,
    },
}

/// Shows only the kind, because the other parts may contain a password.
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
    /// Parses any of the three forms, with or without TLS, and reads the files.
    ///
    /// # Errors
    /// [`StockError::Misconfigured`] with the form that the URL should have, or with the file that cannot be used.
    pub fn parse(server: &RedisServer) -> Result<Self, StockError> {
        let misconfigured = |why: String| StockError::Misconfigured(why);
        let (over_tls, kind, rest) = split_scheme(&server.url);
        if !over_tls && !server.tls.is_empty() {
            let why = "there are files for TLS, and the URL does not begin with rediss";
            return Err(misconfigured(why.to_owned()));
        }
        let certificates = over_tls.then(|| server.tls.read()).transpose()?;
        let access = Access {
            login: RedisConnectionInfo::default(),
            certificates,
        };
        match kind {
            Kind::Sentinel => parse_sentinel(rest, access)
                .unwrap_or_else(|| Err(misconfigured(format!("not {SENTINEL_FORM}")))),
            Kind::Cluster => parse_cluster(rest, access)
                .unwrap_or_else(|| Err(misconfigured(format!("not {CLUSTER_FORM}")))),
            Kind::Single => {
                if over_tls && rest.contains('#') {
                    let why = "no certificate is taken unseen: the URL ends before #";
                    return Err(misconfigured(why.to_owned()));
                }
                let info = server.url.as_str().into_connection_info();
                let info = info.map_err(|error| misconfigured(error.to_string()))?;
                Ok(Self::Single(access.equip(info)?))
            }
        }
    }
}

enum Kind {
    Single,
    Sentinel,
    Cluster,
}

/// Whether the URL asks for TLS, its kind, and the text after the scheme.
fn split_scheme(url: &str) -> (bool, Kind, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let over_tls = scheme == "rediss" || scheme.starts_with("rediss+");
    let kind = match scheme.split_once('+') {
        Some(("redis" | "rediss", "sentinel")) => Kind::Sentinel,
        Some(("redis" | "rediss", "cluster")) => Kind::Cluster,
        _ => Kind::Single,
    };
    (over_tls, kind, rest)
}

/// Checks that `server` has one of the forms of [`Address::parse`] and that its files can be used.
///
/// # Errors
/// The form that it should have, or the file that cannot be used. The message contains no password.
pub fn check_server(server: &RedisServer) -> Result<(), StockError> {
    Address::parse(server).map(drop)
}

/// The TCP settings of every connection to Redis: no delay, and keep-alive probes, so that a dead server is noticed.
#[must_use]
pub fn tcp_settings() -> TcpSettings {
    TcpSettings::default()
        .set_nodelay(true)
        .set_keepalive(TcpKeepalive::new().with_time(KEEPALIVE))
}

fn parse_sentinel(rest: &str, access: Access) -> Option<Result<Address, StockError>> {
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
    let sentinels = servers(sentinel_login.as_deref(), hosts, None)?;
    let login = masters.first()?.redis_settings().clone();
    let access = Access { login, ..access };
    let equipped = equip(sentinels, &access);
    Some(equipped.map(|sentinels| Address::Sentinel {
        sentinels,
        master: master.to_owned(),
        access,
    }))
}

fn parse_cluster(rest: &str, access: Access) -> Option<Result<Address, StockError>> {
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?']) {
        return None;
    }
    let (login, hosts) = split_login(authority);
    let seeds = servers(login, hosts, None)?;
    let login = seeds.first()?.redis_settings().clone();
    let access = Access { login, ..access };
    let equipped = equip(seeds, &access);
    Some(equipped.map(|seeds| Address::Cluster { seeds, access }))
}

fn split_login(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((login, hosts)) => (Some(login), hosts),
        None => (None, authority),
    }
}

/// Makes a URL of each host, so that it is parsed like any other URL.
fn servers(
    login: Option<&str>,
    hosts: &str,
    database: Option<&str>,
) -> Option<Vec<ConnectionInfo>> {
    let login = login.map_or_else(String::new, |login| format!("{login}@"));
    let database = database.map_or_else(String::new, |database| format!("/{database}"));
    let server = |host: &str| {
        let url = format!("redis://{login}{host}{database}");
        url.into_connection_info().ok()
    };
    hosts.split(',').map(server).collect()
}

/// The data for a connection to each server, with its own login.
fn equip(servers: Vec<ConnectionInfo>, access: &Access) -> Result<Vec<ConnectionInfo>, StockError> {
    let equip = |server: ConnectionInfo| {
        let redis::ConnectionAddr::Tcp(host, port) = server.addr() else {
            return access.equip(server);
        };
        let own = Access {
            login: server.redis_settings().clone(),
            certificates: access.certificates.clone(),
        };
        own.server(host, *port)
    };
    servers.into_iter().map(equip).collect()
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
            access: Access { login, .. },
        }) = Address::parse(&url.into())
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
        for (url, over_tls) in [
            ("redis+cluster://:secret@a:1,b", false),
            ("rediss+cluster://:secret@a:1,b/", true),
        ] {
            let Ok(Address::Cluster { seeds, access }) = Address::parse(&url.into()) else {
                panic!("it is one");
            };
            assert_eq!(names(&seeds), ["a:1", "b:6379"]);
            assert_eq!(access.login.password(), Some("secret"));
            let found = access.server("c", 7).unwrap();
            assert_eq!(found.redis_settings().password(), Some("secret"));
            for server in seeds.iter().chain([&found]) {
                assert_eq!(is_over_tls(server), over_tls, "{url}");
            }
        }
    }

    fn is_over_tls(server: &ConnectionInfo) -> bool {
        matches!(
            server.addr(),
            redis::ConnectionAddr::TcpTls {
                insecure: false,
                tls_params: Some(_),
                ..
            }
        )
    }

    #[test]
    fn one_server_and_sentinels_are_reached_over_tls_too() {
        let Ok(Address::Single(server)) = Address::parse(&"rediss://app:secret@a:1/2".into())
        else {
            panic!("it is one");
        };
        assert!(is_over_tls(&server));
        let login = server.redis_settings();
        assert_eq!((login.password(), login.db()), (Some("secret"), 2));
        let url = "rediss+sentinel://:secret@a:1/sale?sentinel_password=x";
        let Ok(Address::Sentinel {
            sentinels, access, ..
        }) = Address::parse(&url.into())
        else {
            panic!("it is one");
        };
        assert!(is_over_tls(&sentinels[0]));
        assert_eq!(sentinels[0].redis_settings().password(), Some("x"));
        assert!(is_over_tls(&access.server("b", 2).unwrap()));
    }

    #[test]
    fn files_that_cannot_be_used_are_told() {
        let with = |url: &str, file: &str| {
            let mut server = RedisServer::from(url);
            server.tls.ca = Some(file.into());
            let refused = Address::parse(&server).expect_err("it is refused");
            refused.to_string()
        };
        assert!(with("rediss://a", "/nowhere").contains("/nowhere"));
        assert!(with("redis://a", "/nowhere").contains("rediss"));
        let mut half = RedisServer::from("rediss://a");
        half.tls.key = Some("/dev/null".into());
        assert!(Address::parse(&half).is_err());
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
            "rediss+cluster://:hunter2@a:x",
            "rediss+nothing://:hunter2@a",
            "rediss://:hunter2@a#insecure",
        ] {
            let Err(StockError::Misconfigured(why)) = Address::parse(&url.into()) else {
                panic!("{url} is refused");
            };
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
