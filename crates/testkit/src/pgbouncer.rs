//! PgBouncer between the services and PostgreSQL.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::postgres::as_server_user;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of server connections for all clients: the value of docs/configuration.md for one ingress.
const SESSIONS: u32 = 50;

/// For how long a client has a server connection for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// As long as it is connected.
    Session,
    /// As long as its transaction lasts.
    Transaction,
}

impl PoolMode {
    /// As the setting spells it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
        }
    }
}

/// A `PgBouncer` for one database, which accepts every client without a password. Killed when dropped.
#[derive(Debug)]
pub struct PgBouncer {
    _process: Process,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    /// Starts one for the server at this address, for one user. `extra` are lines of its configuration.
    ///
    /// # Errors
    /// When it is not installed or does not start, with the end of its log.
    pub fn before(server: SocketAddr, user: &str, mode: PoolMode, extra: &str) -> Result<Self> {
        let directory = scratch_dir("pgbouncer")?;
        // It refuses to run as root.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
        let users = directory.path().join("users");
        fs::write(&users, format!("\"{user}\" \"\"\n"))?;
        let port = free_port()?;
        let configuration = directory.path().join("pgbouncer.ini");
        let (host, server_port, users) = (server.ip(), server.port(), users.display());
        let text = format!(
            "[databases]\n* = host={host} port={server_port}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {users}\nmax_client_conn = 500\n\
             pool_mode = {}\ndefault_pool_size = {SESSIONS}\n{extra}\n",
            mode.as_str()
        );
        fs::write(&configuration, text)?;
        let mut command = Command::new(program()?);
        command.arg(&configuration);
        let command = as_server_user(command)?;
        let mut process = Process::spawn(
            "pgbouncer",
            &command,
            &directory.path().join("pgbouncer.log"),
        )?;
        let address = (Ipv4Addr::LOCALHOST, port);
        wait_for("a connection to PgBouncer", START_TIMEOUT, || {
            process.expect_running()?;
            Ok(TcpStream::connect(address).is_ok().then_some(()))
        })
        .with_context(|| process.log_tail())?;
        Ok(Self {
            _process: process,
            port,
            _directory: directory,
        })
    }

    /// Where clients connect, on the loopback.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// The path of the program, which is not in PATH on Debian.
///
/// # Errors
/// When it is not installed.
pub fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join("pgbouncer"))
        .find(|candidate| candidate.is_file())
        .context("pgbouncer not found: install PgBouncer, or all that tests need with `cargo xtask install`")
}
