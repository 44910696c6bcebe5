//! A private Kafka broker (KRaft) from its jars.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use uuid::Uuid;

mod classes;
mod cluster;
mod cut;
mod jars;
mod secure;
mod tool;

pub use self::cluster::KafkaCluster;
pub use self::jars::{install_jars, jars_are_installed};
pub use self::secure::{SecureListener, Security};
pub use self::tool::run_kafka_configs;

use self::jars::libs;
use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const START_ATTEMPTS: u32 = 3;
const HEAP_MB: u32 = 512;
/// Short, for restarts: after a SIGKILL the controller lets the broker in again only when the killed one's
/// session is over.
const SESSION_MS: u64 = 3_000;

/// The ports of a broker that is its own controller.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Where clients connect.
    pub broker: u16,
    /// Where only the broker itself connects.
    pub controller: u16,
}

impl Ports {
    /// Two free ports.
    ///
    /// # Errors
    /// As [`free_port`].
    pub fn free() -> Result<Self> {
        Ok(Self {
            broker: free_port()?,
            controller: free_port()?,
        })
    }
}

/// What a node is told of itself and of its cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: usize,
    pub(crate) ports: Ports,
    /// Where clients are told to connect: the broker's own port, or that of a proxy before it.
    pub(crate) advertised: u16,
    /// The controllers' ports, by node from 1; the node's own among them.
    pub(crate) controllers: Vec<u16>,
    pub(crate) heap_mb: u32,
    /// By which a deployment knows its log: each cluster has its own.
    pub(crate) cluster_id: String,
    /// After how long a silence the controller fences it.
    pub(crate) session_ms: u64,
    pub(crate) security: Security,
}

impl Node {
    /// The only one of its cluster.
    fn alone(ports: Ports) -> Self {
        Self {
            id: 1,
            ports,
            advertised: ports.broker,
            controllers: vec![ports.controller],
            heap_mb: HEAP_MB,
            cluster_id: cluster_id(),
            session_ms: SESSION_MS,
            security: Security::default(),
        }
    }
}

/// A broker of its own for a test. Killed when dropped.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    node: Node,
    /// The configuration and the output.
    directory: TempDir,
    data: PathBuf,
}

impl Kafka {
    /// Starts an empty broker, which takes seconds: tests that don't stop it share one, see
    /// [`crate::shared_kafka`].
    ///
    /// # Errors
    /// When Java or Maven is missing or the broker does not come up; the message has its log.
    pub fn start() -> Result<Self> {
        Self::with(None, |_| ())
    }

    /// As [`Kafka::start`], with another time after which the controller fences a broker that is silent.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn with_session_timeout(session_ms: u64) -> Result<Self> {
        Self::with(None, |node| node.session_ms = session_ms)
    }

    /// As [`Kafka::start`], with its data on a disk of the test's own.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn on_disk(data: &Path) -> Result<Self> {
        Self::with(Some(data), |_| ())
    }

    /// As [`Kafka::start`], for clients that come through a proxy: that is where the broker tells
    /// them to connect, and what [`Kafka::brokers`] names. The proxy leads to
    /// [`Kafka::own_address`].
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn behind_proxy(proxy_port: u16) -> Result<Self> {
        Self::with(None, |node| node.advertised = proxy_port)
    }

    /// As [`Kafka::start`], with listeners over TLS beside the plain one.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn secured(security: &Security) -> Result<Self> {
        Self::with(None, |node| node.security = security.clone())
    }

    fn with(data: Option<&Path>, change: impl Fn(&mut Node)) -> Result<Self> {
        classes::make_archive()?;
        let directory = scratch_dir("kafka")?;
        let data = data.map_or_else(|| directory.path().join("data"), |disk| disk.join("data"));
        let mut attempt = 1;
        loop {
            let mut node = Node::alone(Ports::free()?);
            change(&mut node);
            match spawn(directory.path(), &data, &node) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        node,
                        directory,
                        data,
                    });
                }
                // Most likely somebody else took a port meanwhile.
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// A node of a cluster that is not complete yet: nobody waits for its answer.
    pub(crate) fn launch(node: Node) -> Result<Self> {
        let directory = scratch_dir("kafka")?;
        let data = directory.path().join("data");
        let process = launch(directory.path(), &data, &node)?;
        Ok(Self {
            process,
            node,
            directory,
            data,
        })
    }

    /// Waits until the broker answers.
    ///
    /// # Errors
    /// When it ends or does not answer in time, with the end of its log.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        until_ready(&mut self.process, self.node.ports.broker)
    }

    /// `127.0.0.1:<port>`, the same after a restart.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.node.advertised)
    }

    /// Where the broker itself listens, past any proxy.
    #[must_use]
    pub fn own_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.node.ports.broker).into()
    }

    /// Whether the broker has ended by itself, as it does when it cannot write its log.
    ///
    /// # Errors
    /// When the operating system cannot tell.
    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.process.exit_status()?.is_some())
    }

    /// Everything it has written to stdout and stderr so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn output(&self) -> Result<String> {
        Ok(fs::read_to_string(self.process.log())?)
    }

    /// SIGKILL. What was acknowledged is still on disk.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Kills the broker, cuts the last `batches` batches off a partition, and starts it again: what is left
    /// where a replica was elected that lacked them. Gives the offset at which the partition ends then.
    ///
    /// # Errors
    /// As [`Kafka::start`]; when the partition has fewer batches, or more than one segment.
    pub fn restart_without_last(
        &mut self,
        topic: &str,
        partition: i32,
        batches: usize,
    ) -> Result<i64> {
        self.process.kill()?;
        let end = cut::cut(&self.data, &format!("{topic}-{partition}"), batches)?;
        self.restart()?;
        Ok(end)
    }

    /// Kills the broker and starts it again with the same data on the same port.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(self.directory.path(), &self.data, &self.node)?;
        Ok(())
    }

    /// SIGSTOP: connections stay open, nothing is acknowledged.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// Ends a [`Kafka::pause`]; what was sent meanwhile is carried out then.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }
}

fn spawn(directory: &Path, data: &Path, node: &Node) -> Result<Process> {
    let mut process = launch(directory, data, node)?;
    until_ready(&mut process, node.ports.broker)?;
    Ok(process)
}

fn launch(directory: &Path, data: &Path, node: &Node) -> Result<Process> {
    launch_with(short_lived_java(node.heap_mb), directory, data, node)
}

fn launch_with(jvm: Command, directory: &Path, data: &Path, node: &Node) -> Result<Process> {
    prepare_node(directory, data, node)?;
    let command = broker(jvm, directory);
    Process::spawn("kafka", &command, &directory.join("kafka.log"))
}

fn until_ready(process: &mut Process, port: u16) -> Result<()> {
    wait_for(
        "answer of Kafka to a metadata request",
        START_TIMEOUT,
        || {
            process.expect_running()?;
            Ok(answers(port).then_some(()))
        },
    )
    .with_context(|| process.log_tail())
}

/// Writes the broker's configuration into `directory` and formats its log directory if that is new.
///
/// # Errors
/// When Kafka's storage tool fails, with its output.
pub fn prepare(directory: &Path, ports: Ports) -> Result<()> {
    prepare_node(directory, &directory.join("data"), &Node::alone(ports))
}

fn prepare_node(directory: &Path, data: &Path, node: &Node) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(properties_file(directory), properties(data, node))?;
    if data.join("meta.properties").exists() {
        return Ok(());
    }
    let output = short_lived_java(64)
        .args(["kafka.tools.StorageTool", "format"])
        .args(["--cluster-id", &node.cluster_id, "--config"])
        .arg(properties_file(directory))
        .args(node.security.format_arguments())
        .stdin(Stdio::null())
        .output()
        .context("cannot run java; install a JRE of version 17 or newer")?;
    ensure!(
        output.status.success(),
        "formatting Kafka's log directory: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The command line of a broker over a prepared directory.
#[must_use]
pub fn server_command(directory: &Path) -> Command {
    broker(java(HEAP_MB), directory)
}

fn broker(mut jvm: Command, directory: &Path) -> Command {
    jvm.arg("kafka.Kafka").arg(properties_file(directory));
    jvm
}

/// Whether a broker that is ready to serve answers on this loopback port.
#[must_use]
pub fn answers(port: u16) -> bool {
    brokers_known_to(port).is_ok_and(|brokers| brokers > 0)
}

/// Asks for the cluster's metadata and gives the number of live brokers. An open port is not enough:
/// the acceptor is up before the broker is let into its own cluster.
fn brokers_known_to(port: u16) -> std::io::Result<u32> {
    // Length; then Metadata (3) version 4, correlation id, no client id; no topics, none to be created.
    const REQUEST: [u8; 19] = [
        0, 0, 0, 15, 0, 3, 0, 4, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0, 0,
    ];
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(&REQUEST)?;
    // Length, correlation id, throttle time, number of brokers: four bytes each.
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    let [.., a, b, c, d] = answer;
    Ok(u32::from_be_bytes([a, b, c, d]))
}

fn properties_file(directory: &Path) -> PathBuf {
    directory.join("server.properties")
}

/// A JVM that stays small, with Kafka's jars.
fn java(heap_mb: u32) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Xmx{heap_mb}m"))
        .args(["-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=INFO"])
        // Its warnings, as of an archive that it cannot use, are not what a tool prints.
        .args(["-Xlog:disable", "-Xlog:all=warning:stderr"])
        .args(classes::archive().map(|file| format!("-XX:SharedArchiveFile={}", file.display())))
        // The star is Java's, not a shell's: no shell is involved.
        .args(["-cp", &format!("{}/*", libs().display())]);
    command
}

/// The same for what ends soon: code is compiled once and simply, not again for speed.
fn short_lived_java(heap_mb: u32) -> Command {
    let mut command = java(heap_mb);
    command.arg("-XX:TieredStopAtLevel=1");
    command
}

/// A random id, in the alphabet that Kafka wants.
fn cluster_id() -> String {
    let digits = Uuid::new_v4().simple().to_string();
    format!("{}A", &digits[..21])
}

fn properties(data: &Path, node: &Node) -> String {
    let Ports { broker, controller } = node.ports;
    let security = &node.security;
    let voters: Vec<String> = (1..)
        .zip(&node.controllers)
        .map(|(id, port)| format!("{id}@127.0.0.1:{port}"))
        .collect();
    let replicas = node.controllers.len();
    let in_sync = replicas.saturating_sub(1).max(1);
    format!(
        "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{}
advertised.listeners=BROKER://127.0.0.1:{}{}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT{}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={}
broker.heartbeat.interval.ms=500
{}",
        node.id,
        voters.join(","),
        security.addresses(),
        node.advertised,
        security.addresses(),
        security.protocols(),
        data.display(),
        node.session_ms,
        security.properties(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_answers_after_a_kill_and_a_restart_on_the_same_port() {
        let mut kafka = Kafka::start().unwrap();
        let (brokers, port) = (kafka.brokers(), kafka.node.ports.broker);
        assert!(answers(port));

        kafka.kill().unwrap();
        assert!(!answers(port));

        kafka.restart().unwrap();
        assert!(answers(port));
        assert_eq!(kafka.brokers(), brokers);
    }
}
