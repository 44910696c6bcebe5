//! A master, two replicas, and three sentinels.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::Process;
use crate::redis::{Redis, cli};
use crate::scratch::scratch_dir;
use crate::wait::wait_for;
use crate::wire::Wire;

/// The name of the master in the sentinels.
const NAME: &str = "sale";
/// The name of the master in the sentinel on the first server's side. Sentinels that use different names do not know
/// each other.
const BESIDE: &str = "beside";
/// The user and the password of that sentinel. This user may not ask for the replicas.
const BLIND: &str = "blind";
const SERVERS: usize = 3;
const SENTINELS: usize = 3;
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Three servers with `min-replicas-to-write 1`, of which the first one is the master. All clients, and also the
/// servers themselves, reach each server over its own wire, which a test can cut. Only a client that uses
/// [`Sentinels::url_beside_the_first`] can always reach the first server. Killed when dropped.
#[derive(Debug)]
pub struct Sentinels {
    sentinels: Vec<Sentinel>,
    beside: Sentinel,
    servers: Vec<Redis>,
    wires: Vec<Wire>,
}

#[derive(Debug)]
struct Sentinel {
    port: u16,
    tls_port: Option<u16>,
    _process: Process,
    _directory: TempDir,
}

impl Sentinels {
    /// Starts all and waits until every sentinel knows all servers and sentinels. A master counts as cut off from its
    /// replicas after `max_lag_seconds`, and the sentinels consider it dead after a second.
    ///
    /// # Errors
    /// When one does not come up.
    pub fn start(max_lag_seconds: u32) -> Result<Self> {
        Self::with(max_lag_seconds, &[])
    }

    /// The same with TLS, also between the servers. `tls` are additional arguments of all of them.
    ///
    /// # Errors
    /// As [`Sentinels::start`].
    pub fn with(max_lag_seconds: u32, tls: &[String]) -> Result<Self> {
        let (mut servers, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..SERVERS {
            let (port, settings) = over_tls(tls)?;
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            servers.push(Redis::start_with(&settings)?);
            ports.push(port.unwrap_or(servers[servers.len() - 1].port()));
        }
        let wires: Vec<Wire> = ports
            .iter()
            .map(|port| Wire::to(*port))
            .collect::<Result<_>>()?;
        let max_lag = max_lag_seconds.to_string();
        for (server, wire) in servers.iter().zip(&wires) {
            for (name, value) in [
                ("replica-announce-ip", "127.0.0.1"),
                ("replica-announce-port", &wire.port().to_string()),
                ("min-replicas-to-write", "1"),
                ("min-replicas-max-lag", &max_lag),
                ("repl-diskless-sync-delay", "0"),
            ] {
                server.cli(&["CONFIG", "SET", name, value])?;
            }
        }
        let master = wires[0].port().to_string();
        for replica in &servers[1..] {
            replica.cli(&["REPLICAOF", "127.0.0.1", &master])?;
        }
        for replica in &servers[1..] {
            wait_for("a replica's first synchronisation", START_TIMEOUT, || {
                let info = replica.cli(&["INFO", "replication"])?;
                Ok(info.contains("master_link_status:up").then_some(()))
            })?;
        }
        let user = ["on", &format!(">{BLIND}"), "~*", "&*", "+@all", "-info"];
        servers[0].cli(&[&["ACL", "SETUSER", BLIND], &user[..]].concat())?;
        let watch = |_| Sentinel::start(NAME, wires[0].port(), Failovers::Made, tls);
        let sentinels = (0..SENTINELS).map(watch).collect::<Result<_>>()?;
        let all = Self {
            sentinels,
            beside: Sentinel::start(BESIDE, ports[0], Failovers::Never, tls)?,
            servers,
            wires,
        };
        all.wait_until_acquainted()?;
        Ok(all)
    }

    fn wait_until_acquainted(&self) -> Result<()> {
        wait_for("the sentinels' acquaintance", START_TIMEOUT, || {
            for sentinel in &self.sentinels {
                let known = cli(sentinel.port, &["SENTINEL", "MASTER", NAME])?;
                let fields: Vec<&str> = known.lines().collect();
                let is = |name: &str, value: usize| {
                    let pair = fields.chunks(2).find(|pair| pair[0] == name);
                    pair.is_some_and(|pair| pair[1] == value.to_string())
                };
                let all = is("num-slaves", SERVERS - 1) && is("num-other-sentinels", SENTINELS - 1);
                if !all {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// For `REDIS_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}/{NAME}", self.hosts("redis", |s| s.port))
    }

    /// For `REDIS_URL`, over TLS.
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!(
            "{}/{NAME}",
            self.hosts("rediss", |s| s.tls_port.unwrap_or(s.port))
        )
    }

    fn hosts(&self, scheme: &str, port: impl Fn(&Sentinel) -> u16) -> String {
        let hosts = self
            .sentinels
            .iter()
            .map(|s| format!("127.0.0.1:{}", port(s)));
        let hosts: Vec<String> = hosts.collect();
        format!("{scheme}+sentinel://{}", hosts.join(","))
    }

    /// For the `REDIS_URL` of a process that is cut off together with the first server. It asks a sentinel that does
    /// not know the other ones, and never learns of a failover.
    #[must_use]
    pub fn url_beside_the_first(&self) -> String {
        format!("redis+sentinel://127.0.0.1:{}/{BESIDE}", self.beside.port)
    }

    /// A server, numbered from 0, without its wire.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn server(&self, number: usize) -> &Redis {
        &self.servers[number]
    }

    /// The same, to kill and pause.
    ///
    /// # Panics
    /// If there is no such server.
    pub fn server_mut(&mut self, number: usize) -> &mut Redis {
        &mut self.servers[number]
    }

    /// The wire of a server.
    ///
    /// # Panics
    /// If there is no such server.
    #[must_use]
    pub fn wire(&self, number: usize) -> &Wire {
        &self.wires[number]
    }

    /// Lets the sentinels promote a replica, although the master works.
    ///
    /// # Errors
    /// When they refuse.
    pub fn fail_over(&self) -> Result<()> {
        cli(self.sentinels[0].port, &["SENTINEL", "FAILOVER", NAME])?;
        Ok(())
    }

    /// The server that the sentinels name as master, if they all name the same.
    ///
    /// # Errors
    /// When a sentinel does not answer.
    pub fn master(&self) -> Result<Option<usize>> {
        let mut named = Vec::new();
        for sentinel in &self.sentinels {
            let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME];
            let answer = cli(sentinel.port, &ask)?;
            let port: u16 = answer.lines().nth(1).context("no port")?.parse()?;
            named.push(self.wires.iter().position(|wire| wire.port() == port));
        }
        let agreed = named.iter().all(|number| *number == named[0]);
        Ok(named[0].filter(|_| agreed))
    }
}

/// Whether a sentinel replaces a master that it considers dead, and knows its replicas. Such a sentinel would turn a
/// promoted replica into a replica again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failovers {
    Made,
    Never,
}

impl Sentinel {
    fn start(name: &str, master: u16, failovers: Failovers, tls: &[String]) -> Result<Self> {
        let directory = scratch_dir("sentinel")?;
        let port = free_port()?;
        let config = directory.path().join("sentinel.conf");
        let (quorum, login) = match failovers {
            Failovers::Made => (2, String::new()),
            Failovers::Never => (
                SENTINELS + 1,
                format!("sentinel auth-user {name} {BLIND}\nsentinel auth-pass {name} {BLIND}\n"),
            ),
        };
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\n\
             sentinel monitor {name} 127.0.0.1 {master} {quorum}\n\
             sentinel down-after-milliseconds {name} 1000\n\
             sentinel failover-timeout {name} 5000\n{login}",
            directory.path().display()
        );
        fs::write(&config, text)?;
        let (tls_port, tls) = over_tls(tls)?;
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel").args(tls);
        let log = directory.path().join("sentinel.log");
        let mut process = Process::spawn("redis-server --sentinel", &command, &log)?;
        wait_for("a sentinel's answer", START_TIMEOUT, || {
            process.expect_running()?;
            Ok(crate::redis::answers(port).then_some(()))
        })
        .with_context(|| process.log_tail())?;
        Ok(Self {
            port,
            tls_port,
            _process: process,
            _directory: directory,
        })
    }
}

/// The TLS port and the arguments of a server. Nothing if TLS is not used.
fn over_tls(tls: &[String]) -> Result<(Option<u16>, Vec<String>)> {
    if tls.is_empty() {
        return Ok((None, Vec::new()));
    }
    let port = free_port()?;
    let own = ["--tls-port", &port.to_string(), "--tls-replication", "yes"];
    let own = own.map(str::to_owned).into_iter();
    Ok((Some(port), own.chain(tls.iter().cloned()).collect()))
}
