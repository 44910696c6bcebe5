//! A private Kafka broker (KRaft) from its jars.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

mod cluster;
mod cut;
mod jars;
mod jvm;
mod node;
mod secure;
mod tool;

pub use self::cluster::KafkaCluster;
pub use self::jars::{install_jars, jars_are_installed};
pub use self::node::{Ports, prepare};
pub use self::secure::{SecureListener, Security};
pub use self::tool::{consumer_rate, run_kafka_configs, run_kafka_program};

use self::jvm::{java, short_lived_java};
use self::node::{HEAP_MB, Node, prepare_node, properties_file};
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const START_ATTEMPTS: u32 = 3;
const SHARED_SESSION_MS: u64 = 60_000;

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

    /// As [`Kafka::start`], for many tests at once. Nobody kills it, so it need not be known to be dead within
    /// seconds: its controller would fence it, and refuse every topic, whenever the machine is too busy for it.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn shared() -> Result<Self> {
        Self::with_session_timeout(SHARED_SESSION_MS)
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

    /// As [`Kafka::start`], for clients that connect over a proxy. The broker advertises the proxy's address, which is
    /// also [`Kafka::brokers`]. The proxy has to connect to [`Kafka::own_address`].
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
        jvm::make_archive()?;
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
                // Another process has probably taken a port meanwhile.
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a node of a cluster that is not complete yet, and does not wait until it answers.
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

    /// The address of the broker itself, without a proxy.
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

    /// Kills the broker, removes the last `batches` batches of a partition, and starts it again. The same happens when
    /// a replica without them is elected. Returns the end offset of the partition after that.
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

/// Asks for the cluster's metadata. Returns the number of live brokers. It is not enough that the port is open, because
/// it is opened before the broker has joined its own cluster.
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
