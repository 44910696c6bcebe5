//! A private single-node Kafka (KRaft) from its jars.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::scratch_dir;
use crate::wait::wait_for;
use crate::workspace_root;

const START_TIMEOUT: Duration = Duration::from_secs(120);
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
const START_ATTEMPTS: u32 = 3;
const CLUSTER_ID: &str = "c2Vja2lsbC1sb2NhbC0wMQ";

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

/// A broker of its own for a test. Killed when dropped.
#[derive(Debug)]
pub struct Kafka {
    process: Process,
    ports: Ports,
    directory: TempDir,
}

impl Kafka {
    /// Starts an empty broker, which takes seconds: tests that don't stop it share one, see
    /// [`crate::shared_kafka`].
    ///
    /// # Errors
    /// When Java or Maven is missing or the broker does not come up; the message has its log.
    pub fn start() -> Result<Self> {
        install_jars()?;
        let directory = scratch_dir("kafka")?;
        let mut attempt = 1;
        loop {
            let ports = Ports::free()?;
            match spawn(directory.path(), ports) {
                Ok(process) => {
                    return Ok(Self {
                        process,
                        ports,
                        directory,
                    });
                }
                // Most likely somebody else took a port meanwhile.
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// `127.0.0.1:<port>`, the same after a restart.
    #[must_use]
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.ports.broker)
    }

    /// SIGKILL. What was acknowledged is still on disk.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Kills the broker and starts it again with the same data on the same port.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = spawn(self.directory.path(), self.ports)?;
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

fn spawn(directory: &Path, ports: Ports) -> Result<Process> {
    prepare(directory, ports)?;
    let command = server_command(directory);
    let mut process = Process::spawn("kafka", &command, &directory.join("kafka.log"))?;
    wait_for(
        "answer of Kafka to a metadata request",
        START_TIMEOUT,
        || {
            process.expect_running()?;
            Ok(answers(ports.broker).then_some(()))
        },
    )
    .with_context(|| process.log_tail())?;
    Ok(process)
}

/// Writes the broker's configuration into `directory` and formats its log directory if that is new.
///
/// # Errors
/// When Kafka's storage tool fails, with its output.
pub fn prepare(directory: &Path, ports: Ports) -> Result<()> {
    let data = directory.join("data");
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    fs::write(properties_file(directory), properties(&data, ports))?;
    if data.join("meta.properties").exists() {
        return Ok(());
    }
    let output = java(64)
        .args(["kafka.tools.StorageTool", "format"])
        .args(["--cluster-id", CLUSTER_ID, "--config"])
        .arg(properties_file(directory))
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
    let mut command = java(512);
    command.arg("kafka.Kafka").arg(properties_file(directory));
    command
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

/// Whether the jars of the committed list are there.
#[must_use]
pub fn jars_are_installed() -> bool {
    let installed = fs::read(libs().join("pom.xml"));
    installed.is_ok_and(|list| fs::read(jar_list()).is_ok_and(|wanted| wanted == list))
}

fn jar_list() -> PathBuf {
    workspace_root().join("ops/local/kafka/pom.xml")
}

/// Fetches Kafka's jars with Maven into `target/kafka/libs` unless those of the committed list are there.
///
/// # Errors
/// When Maven is missing or cannot fetch, with its output.
pub fn install_jars() -> Result<()> {
    if jars_are_installed() {
        return Ok(());
    }
    let (libs, list) = (libs(), jar_list());
    // Beside its place, then renamed: another test process must never see half of the jars.
    let parent = libs.parent().context("no directory for the jars")?;
    fs::create_dir_all(parent)?;
    let fresh = tempfile::Builder::new()
        .prefix("libs-")
        .tempdir_in(parent)?;
    let output = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "--file"])
        .arg(&list)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", fresh.path().display()))
        .stdin(Stdio::null())
        .output()
        .context("cannot run mvn; install Maven")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stdout);
        bail!("fetching Kafka's jars: {}\n{message}", output.status);
    }
    fs::copy(&list, fresh.path().join("pom.xml"))?;
    put_in_place(&fresh.keep(), &libs)
}

fn put_in_place(fresh: &Path, libs: &Path) -> Result<()> {
    if libs.exists() {
        let old = fresh.with_extension("old");
        fs::rename(libs, &old)?;
        fs::remove_dir_all(&old)?;
    }
    fs::rename(fresh, libs).with_context(|| format!("cannot replace {}", libs.display()))
}

fn libs() -> PathBuf {
    workspace_root().join("target/kafka/libs")
}

fn properties_file(directory: &Path) -> PathBuf {
    directory.join("server.properties")
}

/// A JVM that starts fast and stays small, with Kafka's jars.
fn java(heap_mb: u32) -> Command {
    let mut command = Command::new("java");
    command
        .arg(format!("-Xmx{heap_mb}m"))
        .args(["-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=INFO"])
        // The star is Java's, not a shell's: no shell is involved.
        .args(["-cp", &format!("{}/*", libs().display())]);
    command
}

/// The short session is for restarts: after a SIGKILL the controller lets the broker in again only when
/// the killed one's session is over.
fn properties(data: &Path, ports: Ports) -> String {
    let Ports { broker, controller } = ports;
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{broker}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
",
        data.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_answers_after_a_kill_and_a_restart_on_the_same_port() {
        let mut kafka = Kafka::start().unwrap();
        let (brokers, port) = (kafka.brokers(), kafka.ports.broker);
        assert!(answers(port));

        kafka.kill().unwrap();
        assert!(!answers(port));

        kafka.restart().unwrap();
        assert!(answers(port));
        assert_eq!(kafka.brokers(), brokers);
    }
}
