//! The address of Redis, and the files for a connection over TLS.

use std::fmt;
use std::path::{Path, PathBuf};

use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, TlsCertificates,
};

use crate::redis::address::tcp_settings;
use crate::redis::error::StockError;

/// Files in PEM format. They are read when a handle is made.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// The authority that signs the servers' certificates. None: the authorities that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate with which this client authenticates itself.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// The address of Redis, and the files for TLS.
#[derive(Clone, Default)]
pub struct RedisServer {
    /// `redis://[user:password@]host:port[/db]`;
    /// `redis+sentinel://[user:password@]host:port,host:port/master[/db]`, with
    /// `?sentinel_user=…&sentinel_password=…` if the sentinels have their own password;
    /// `redis+cluster://[user:password@]host:port,host:port` (some nodes, any). With `rediss` for `redis` over TLS.
    pub url: String,
    /// Used only with `rediss`.
    pub tls: TlsFiles,
}

/// Without the URL, which may contain a password.
impl fmt::Debug for RedisServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisServer")
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

impl From<String> for RedisServer {
    fn from(url: String) -> Self {
        let tls = TlsFiles::default();
        Self { url, tls }
    }
}

impl From<&str> for RedisServer {
    fn from(url: &str) -> Self {
        url.to_owned().into()
    }
}

impl From<&RedisServer> for RedisServer {
    fn from(server: &RedisServer) -> Self {
        server.clone()
    }
}

impl TlsFiles {
    pub(crate) const fn is_empty(&self) -> bool {
        self.ca.is_none() && self.certificate.is_none() && self.key.is_none()
    }

    pub(crate) fn read(&self) -> Result<TlsCertificates, StockError> {
        let client_tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(ClientTlsConfig {
                client_cert: read(certificate)?,
                client_key: read(key)?,
            }),
            (None, None) => None,
            _ => {
                let why = "a client's certificate and its key are given together or not at all";
                return Err(StockError::Misconfigured(why.to_owned()));
            }
        };
        let root_cert = self.ca.as_deref().map(read).transpose()?;
        Ok(TlsCertificates {
            client_tls,
            root_cert,
        })
    }
}

fn read(file: &Path) -> Result<Vec<u8>, StockError> {
    std::fs::read(file)
        .map_err(|error| StockError::Misconfigured(format!("{}: {error}", file.display())))
}

/// How to connect to any server of a deployment.
#[derive(Clone)]
pub struct Access {
    /// The user, the password and the database.
    pub login: RedisConnectionInfo,
    /// None: without TLS.
    pub certificates: Option<TlsCertificates>,
}

impl Access {
    /// The data for a connection to the server at an address.
    pub(crate) fn server(&self, host: &str, port: u16) -> Result<ConnectionInfo, StockError> {
        let host = host.to_owned();
        let address = match &self.certificates {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
        };
        let info = address.into_connection_info()?;
        self.equip(info.set_redis_settings(self.login.clone()))
    }

    /// Adds TCP settings and certificates to `server`.
    pub(crate) fn equip(&self, server: ConnectionInfo) -> Result<ConnectionInfo, StockError> {
        let server = server.set_tcp_settings(tcp_settings());
        let Some(certificates) = &self.certificates else {
            return Ok(server);
        };
        // The first provider that is installed is used by all libraries of this process. If one is already installed,
        // this call fails, which changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::build_with_tls(server, certificates.clone());
        let client = client.map_err(|error| StockError::Misconfigured(error.to_string()))?;
        Ok(client.get_connection_info().clone())
    }
}
